"""Every reply that was ever paid for, one row each, and who is asking for what right now.

SQLite with a write-ahead log and a sync to disk at every commit: what was committed survives
kill -9 and a power cut. It must lie on a local disk; a network file system has no such log.

Before a call is sent its key is claimed and its worst cost reserved, in one transaction with the
check of the caps: two processes can neither ask for the same thing nor spend the same dollar. A
claim lives as long as its owner renews it; a dead owner's claims are freed, and what they had
reserved counts as spent, since nobody knows.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from caft.errors import UserError
from caft.teachers.caps import Caps, Spending
from caft.teachers.ledger_errors import explain_error
from caft.teachers.ledger_mark import read_mark, refuse_lost_replies, write_mark
from caft.teachers.replies import TeacherReply

__all__ = ["LEASE_SECONDS", "Arrival", "Caps", "Claimed", "Ledger", "Spending"]

LEASE_SECONDS = 60.0
"""A claim that was not renewed for this long is free again."""

_COUNTED, _ONLY_THE_REPLY = 0, 2
"""Values of usage_estimated: who counted the tokens, the server all or only the reply's; 1: we."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, endpoint TEXT NOT NULL, attempt INTEGER NOT NULL,
    request TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    usage_estimated INTEGER NOT NULL, usd REAL NOT NULL, seconds REAL NOT NULL,
    arrived REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_by_model ON replies (model, prompt_tokens, completion_tokens);
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, owner TEXT NOT NULL, machine TEXT NOT NULL,
    pid INTEGER NOT NULL, expires REAL NOT NULL, reserved_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    model TEXT PRIMARY KEY, calls INTEGER NOT NULL, usd REAL NOT NULL, unsure_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, unsure_usd REAL NOT NULL,
    at REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A reply on its way into the ledger, with what an auditor will want to know."""

    reply: TeacherReply
    attempt: int
    request: str
    endpoint: str
    usage_estimated: bool


@dataclass(slots=True)
class Claimed:
    """What became of the keys that were wanted.

    `taken` are ours to ask, `bought` are answered already, `held` are being asked by others, and
    `capped` did not fit under the caps, given `spending`. `askers` of the same model are at work,
    this one included.
    """

    taken: list[str] = field(default_factory=list)
    bought: list[TeacherReply] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    capped: list[str] = field(default_factory=list)
    spending: Spending = field(default_factory=Spending)
    askers: int = 1


class Ledger:
    """The ledger at `path`, opened for one asker of one model. Close it: its claims end with it.

    One thread at a time may use it. `reads_only` writes nothing at all, and needs a ledger that is
    there. Raises UserError where the file cannot be read or written, and where it has lost the
    replies that it had.
    """

    def __init__(
        self,
        path: Path,
        model: str,
        *,
        lease_seconds: float = LEASE_SECONDS,
        reads_only: bool = False,
    ) -> None:
        self.path, self.model, self.lease_seconds = path, model, lease_seconds
        self.owner, self._machine = uuid.uuid4().hex, _name_machine()
        self._reads_only, self._renewed, self._row = reads_only, time.time(), ""
        had = read_mark(path)
        with self._explained():
            if not path.exists():
                refuse_lost_replies(path, had, 0)
            self._db = _open_to_read(path) if reads_only else _open_to_write(path)
            if not reads_only:
                self._start_log()
                self._db.execute("PRAGMA synchronous=FULL")
            self._prepare()
            count = self._count_replies()
            refuse_lost_replies(path, had, count)
            if not reads_only:
                write_mark(path, count)
            self._marked = count > 0

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free this asker's claims, counting them as spent, and close the file."""
        try:
            if not self._reads_only:
                with self._writing():
                    self._free("owner = ?", (self.owner,), "the asker stopped")
                write_mark(self.path, self._count_replies())
        finally:
            self._db.close()

    def replies(self, keys: Iterable[str]) -> dict[str, TeacherReply]:
        """The replies that are there already, by key."""
        wanted, found = list(dict.fromkeys(keys)), {}
        with self._explained():
            for start in range(0, len(wanted), 500):
                for reply in self._select(wanted[start : start + 500]):
                    found[reply.key] = reply
        return found

    def replies_and_endpoints(self, keys: Sequence[str]) -> list[tuple[TeacherReply, str]]:
        """The replies that are there already, each with the address that wrote it."""
        found = list(self.replies(keys).values())
        with self._explained():
            return [(reply, self._endpoint_of(reply.key)) for reply in found]

    def token_counts(self) -> list[tuple[int, int, int]]:
        """(characters of the request, prompt tokens, completion tokens) of the model's replies."""
        with self._explained():
            rows = self._db.execute(
                "SELECT length(request), prompt_tokens, completion_tokens FROM replies "
                "WHERE model = ? AND usage_estimated = 0 LIMIT 5000",
                (self.model,),
            )
            return [(int(a), int(b), int(c)) for a, b, c in rows]

    def spending(self) -> Spending:
        """What the model has cost so far, in flight included."""
        with self._explained():
            paid = self._db.execute(
                "SELECT calls, usd, unsure_usd FROM spending WHERE model = ?", (self.model,)
            ).fetchone()
            reserved, in_flight = self._db.execute(
                "SELECT TOTAL(reserved_usd), COUNT(*) FROM claims WHERE model = ?", (self.model,)
            ).fetchone()
        calls, usd, unsure = paid or (0, 0.0, 0.0)
        return Spending(
            calls=calls, usd=usd, unsure_usd=unsure, reserved_usd=reserved, in_flight=in_flight
        )

    def claim(self, wanted: Sequence[tuple[str, float]], caps: Caps) -> Claimed:
        """Claim (key, worst USD) pairs, each counted as one call that is about to be sent."""
        claimed = Claimed()
        with self._writing():
            self._free_dead()
            bought = {reply.key: reply for reply in self._select([key for key, _ in wanted])}
            for key, worst in wanted:
                if key in bought:
                    claimed.bought.append(bought[key])
                elif self._is_claimed(key):
                    claimed.held.append(key)
                elif not self.spending().fits(caps, worst):
                    claimed.capped.append(key)
                else:
                    self._insert_claim(key, worst)
                    claimed.taken.append(key)
            claimed.spending, claimed.askers = self.spending(), self._count_askers()
        return claimed

    def claim_again(self, key: str, reason: str, unsure: float, worst: float, caps: Caps) -> bool:
        """After a failed call that may have cost `unsure` USD: whether it may be sent once more.

        The claim is kept if so and given up if not. It is another asker's where this one slept
        for longer than its lease; then that one asks, or has asked.
        """
        with self._writing():
            self._give_up(key, reason, unsure)
            bought = any(True for _ in self._select([key]))
            if bought or self._is_claimed(key) or not self.spending().fits(caps, worst):
                return False
            self._insert_claim(key, worst)
        return True

    def give_up(self, key: str, reason: str, unsure: float) -> None:
        """End a claim without a reply; `unsure` is what the failed call may have cost."""
        with self._writing():
            self._give_up(key, reason, unsure)

    def release(self, keys: Sequence[str]) -> None:
        """End claims whose call was never sent."""
        with self._writing():
            for key in keys:
                self._count(calls=-1 if self._delete_claim(key) else 0)

    def renew(self) -> None:
        """Tell the others that this asker lives."""
        with self._writing():
            self._db.execute(
                "UPDATE claims SET expires = ? WHERE owner = ?",
                (time.time() + self.lease_seconds, self.owner),
            )
        self._renewed = time.time()

    def may_have_lapsed(self) -> bool:
        """Whether the claims were not renewed in time: the machine slept, or stood still."""
        return time.time() > self._renewed + self.lease_seconds

    def hold(self, key: str) -> bool:
        """Whether the claim is still this asker's; if so it is renewed."""
        with self._writing():
            ours = (time.time() + self.lease_seconds, key, self.owner)
            renewed = self._db.execute(
                "UPDATE claims SET expires = ? WHERE key = ? AND owner = ?", ours
            )
            return renewed.rowcount > 0

    def commit(self, arrivals: Sequence[Arrival]) -> None:
        """Write replies down for good. Doing it twice does no harm."""
        with self._writing():
            for arrival in arrivals:
                self._insert_reply(arrival)
                # Without our claim the money was counted before: by us, or as unsure when the
                # claim was taken for a dead asker's.
                if self._delete_claim(arrival.reply.key):
                    self._count(usd=arrival.reply.usd)
        if not self._marked:
            write_mark(self.path, self._count_replies())
            self._marked = True

    # Inside a transaction

    def _insert_reply(self, arrival: Arrival) -> None:
        reply = arrival.reply
        in_part = _ONLY_THE_REPLY if reply.counted else 1
        counted = in_part if arrival.usage_estimated else _COUNTED
        self._row = f"the reply {reply.key[:12]} of {self.model}"
        row = (
            reply.key, self.model, arrival.endpoint, arrival.attempt, arrival.request, reply.text,
            reply.finish_reason, reply.prompt_tokens, reply.completion_tokens,
            counted, reply.usd, reply.seconds, time.time(),
        )  # fmt: skip
        # Not OR IGNORE, which would drop a row that is faulty in any other way as well.
        self._db.execute(
            f"INSERT INTO replies VALUES ({_marks(len(row))}) ON CONFLICT (key) DO NOTHING", row
        )
        self._row = ""

    def _count_askers(self) -> int:
        (others,) = self._db.execute(
            "SELECT COUNT(DISTINCT owner) FROM claims WHERE model = ? AND owner != ?",
            (self.model, self.owner),
        ).fetchone()
        return int(others) + 1

    def _insert_claim(self, key: str, worst: float) -> None:
        expires = time.time() + self.lease_seconds
        row = (key, self.model, self.owner, self._machine, os.getpid(), expires, worst)
        self._db.execute(f"INSERT INTO claims VALUES ({_marks(len(row))})", row)
        self._count(calls=1)

    def _delete_claim(self, key: str) -> bool:
        ours = (key, self.owner)
        return self._db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", ours).rowcount > 0

    def _is_claimed(self, key: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM claims WHERE key = ?", (key,)).fetchone())

    def _give_up(self, key: str, reason: str, unsure: float) -> None:
        if self._delete_claim(key):
            self._count(unsure=unsure)
            self._log_failure(key, self.model, reason, unsure)

    def _free_dead(self) -> None:
        self._free("expires < ?", (time.time(),), "the asker's lease ran out")
        pids = self._db.execute(
            "SELECT DISTINCT pid FROM claims WHERE machine = ?", (self._machine,)
        ).fetchall()
        for (pid,) in pids:
            if not _is_alive(pid):
                self._free("machine = ? AND pid = ?", (self._machine, pid), "the asker died")

    def _free(self, condition: str, values: tuple[object, ...], reason: str) -> None:
        rows = self._db.execute(
            f"SELECT key, model, reserved_usd FROM claims WHERE {condition}", values
        ).fetchall()
        for key, model, reserved in rows:
            self._db.execute("DELETE FROM claims WHERE key = ?", (key,))
            self._db.execute(
                "UPDATE spending SET unsure_usd = unsure_usd + ? WHERE model = ?", (reserved, model)
            )
            self._log_failure(key, model, reason, reserved)

    def _log_failure(self, key: str, model: str, reason: str, unsure: float) -> None:
        row = (key, model, reason, unsure, time.time())
        self._db.execute(f"INSERT INTO failures VALUES ({_marks(len(row))})", row)

    def _count(self, *, calls: int = 0, usd: float = 0.0, unsure: float = 0.0) -> None:
        self._db.execute(
            "INSERT INTO spending VALUES (?, ?, ?, ?) ON CONFLICT (model) DO UPDATE SET "
            "calls = calls + excluded.calls, usd = usd + excluded.usd, "
            "unsure_usd = unsure_usd + excluded.unsure_usd",
            (self.model, calls, usd, unsure),
        )

    def _count_replies(self) -> int:
        (count,) = self._db.execute("SELECT COUNT(*) FROM replies").fetchone()
        return int(count)

    def _endpoint_of(self, key: str) -> str:
        (endpoint,) = self._db.execute(
            "SELECT endpoint FROM replies WHERE key = ?", (key,)
        ).fetchone()
        return str(endpoint)

    def _select(self, keys: Sequence[str]) -> Iterator[TeacherReply]:
        rows = self._db.execute(
            "SELECT key, text, finish_reason, prompt_tokens, completion_tokens, usd, seconds, "
            "usage_estimated "
            f"FROM replies WHERE key IN ({_marks(len(keys))})",
            tuple(keys),
        )
        for key, text, finish, prompt, completion, usd, seconds, estimated in rows:
            yield TeacherReply(
                key=key, text=text, finish_reason=finish, prompt_tokens=prompt,
                completion_tokens=completion, usd=usd, seconds=seconds, from_ledger=True,
                counted=estimated in (_COUNTED, _ONLY_THE_REPLY),
            )  # fmt: skip

    # Edges

    def _start_log(self) -> None:
        # The only statement that does not wait for another asker who opens the file just now.
        patience = time.monotonic() + 60.0
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > patience:
                    raise
                time.sleep(0.01)

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            return
        if version > _VERSION:
            raise UserError(
                f"the teacher's ledger {self.path} was written by a newer CAFT (version "
                f"{version}, this one knows {_VERSION}); update CAFT or give another store.path"
            )
        self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk ends the transaction by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
            raise UserError(explain_error(self.path, error, self._row)) from error


def _open_to_write(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite would make it for its owner alone to write; a shared store goes by the umask.
    if not path.exists():
        path.touch()
    return sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)


def _open_to_read(path: Path) -> sqlite3.Connection:
    if not path.stat().st_size:  # a run that has just begun, or was killed then
        return sqlite3.connect(":memory:", isolation_level=None)
    # Without a log beside it nobody is writing. Else its files are there, and need not be made.
    quiet = not path.with_name(f"{path.name}-wal").exists()
    address = f"{path.absolute().as_uri()}?{'immutable=1' if quiet else 'mode=ro'}"
    return sqlite3.connect(address, uri=True, timeout=60.0, isolation_level=None)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _name_machine() -> str:
    # Process ids mean something only within one machine and one container.
    space = Path("/proc/self/ns/pid")
    inside = os.stat(space).st_ino if space.exists() else 0
    return hashlib.sha256(f"{socket.gethostname()}:{inside}".encode()).hexdigest()[:16]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

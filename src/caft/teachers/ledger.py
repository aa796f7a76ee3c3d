"""The ledger: every reply that was ever paid for, and the requests now in flight.

SQLite with a write-ahead log and a sync to disk at every commit: what was committed survives
kill -9 and a power cut. It must be on a local disk; a network file system cannot have such a log.

Before a call is sent its key is claimed and its worst cost reserved, in one transaction with the
check of the caps: two processes can neither send the same request nor spend the same dollar. A
claim lasts as long as its owner renews it; a dead owner's claims are freed, and their reserved cost
counts as spent, since the calls may have been charged.
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

from caft.errors import UserError
from caft.teachers.ledger_file import (
    explain_error,
    knows_reasoning,
    note_count,
    open_ledger,
    read_noted_count,
    refuse_lost_replies,
)
from caft.teachers.prices import Caps, Spending
from caft.teachers.replies import LedgerEntry, TeacherReply

LEASE_SECONDS = 60.0
"""Seconds after which a claim that was not renewed is free again."""

_ALL_COUNTED, _PROMPT_ESTIMATED = 0, 2
"""Values of usage_estimated: the server counted all tokens, or only the reply's; 1: none."""


@dataclass(slots=True)
class Claims:
    """The result of claiming keys.

    `taken` are claimed by this client, `bought` are already answered, `held` are claimed by others,
    and `capped` did not fit under the caps, given `spending`. `clients` is the number of clients
    that now ask the same model, this one included.
    """

    taken: list[str] = field(default_factory=list)
    bought: list[TeacherReply] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    capped: list[str] = field(default_factory=list)
    spending: Spending = field(default_factory=Spending)
    clients: int = 1


class Ledger:
    """The ledger at `path`, opened for one client that asks one model. Closing it ends its claims.

    One thread at a time may use it. `reads_only` writes nothing at all, and needs an existing
    ledger. Raises UserError if the file cannot be read or written, and if it has lost replies.
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
        noted = read_noted_count(path)
        with self._explained():
            if not path.exists():
                refuse_lost_replies(path, noted, 0)
            self._db = open_ledger(path, reads_only=reads_only)
            self._reasoning = "reasoning" if knows_reasoning(self._db) else "NULL"
            count = self._count_replies()
        refuse_lost_replies(path, noted, count)
        if not reads_only:
            note_count(path, count)
        self._noted = count > 0

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free this client's claims, counting them as spent, and close the file."""
        try:
            if not self._reads_only:
                with self._writing():
                    self._free("owner = ?", (self.owner,), "the client stopped")
                note_count(self.path, self._count_replies())
        finally:
            self._db.close()

    # Reading

    def replies(self, keys: Iterable[str]) -> dict[str, TeacherReply]:
        """The replies that the ledger has, by key."""
        return {reply.key: reply for reply, _ in self.replies_and_endpoints(keys)}

    def replies_and_endpoints(self, keys: Iterable[str]) -> list[tuple[TeacherReply, str]]:
        """The replies that the ledger has, each with the address that wrote it."""
        wanted = list(dict.fromkeys(keys))
        with self._explained():
            return [
                row
                for start in range(0, len(wanted), 500)
                for row in self._select(wanted[start : start + 500])
            ]

    def _select(self, keys: Sequence[str]) -> Iterator[tuple[TeacherReply, str]]:
        rows = self._db.execute(
            "SELECT key, text, finish_reason, prompt_tokens, completion_tokens, usd, seconds, "
            f"usage_estimated, endpoint, {self._reasoning} FROM replies "
            f"WHERE key IN ({_marks(len(keys))})",
            tuple(keys),
        )
        for key, text, finish, prompt, completion, usd, seconds, estimated, endpoint, told in rows:
            reply = TeacherReply(
                key=key, text=text, finish_reason=finish, prompt_tokens=prompt,
                completion_tokens=completion, usd=usd, seconds=seconds, from_ledger=True,
                counted=estimated in (_ALL_COUNTED, _PROMPT_ESTIMATED), reasoning=told,
            )  # fmt: skip
            yield reply, endpoint

    def token_counts(self) -> list[tuple[int, int, int]]:
        """(characters of the request, prompt tokens, completion tokens) of the model's replies."""
        with self._explained():
            return self._db.execute(
                "SELECT length(request), prompt_tokens, completion_tokens FROM replies "
                "WHERE model = ? AND usage_estimated = 0 LIMIT 5000",
                (self.model,),
            ).fetchall()

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

    # Claims

    def claim(self, wanted: Sequence[tuple[str, float]], caps: Caps) -> Claims:
        """Claim (key, worst USD) pairs, each counted as one call that is about to be sent."""
        claims = Claims()
        with self._writing():
            self._free_dead()
            bought = {reply.key: reply for reply, _ in self._select([key for key, _ in wanted])}
            for key, worst in wanted:
                if key in bought:
                    claims.bought.append(bought[key])
                elif self._is_claimed(key):
                    claims.held.append(key)
                elif not self.spending().fits(caps, worst):
                    claims.capped.append(key)
                else:
                    self._insert_claim(key, worst)
                    claims.taken.append(key)
            claims.spending, claims.clients = self.spending(), self._count_clients()
        return claims

    def give_up(self, key: str, reason: str, unsure: float) -> None:
        """End a claim without a reply; `unsure` is what the failed call may have cost.

        Nothing happens if another client has taken it while this machine slept.
        """
        with self._writing():
            if self._delete_claim(key):
                self._count(unsure=unsure)
                self._log_failure(key, self.model, reason, unsure)

    def release(self, keys: Sequence[str]) -> None:
        """End claims whose call was never sent."""
        with self._writing():
            for key in keys:
                self._count(calls=-1 if self._delete_claim(key) else 0)

    def renew(self) -> None:
        """Show the other clients that this one is alive."""
        with self._writing():
            self._renew("owner = ?", self.owner)
        self._renewed = time.time()

    def may_have_lapsed(self) -> bool:
        """Whether the claims were not renewed in time: the machine slept, or was suspended."""
        return time.time() > self._renewed + self.lease_seconds

    def hold(self, key: str) -> bool:
        """Whether the claim is still this client's; if so it is renewed."""
        with self._writing():
            return self._renew("key = ? AND owner = ?", key, self.owner) > 0

    def commit(self, entries: Sequence[LedgerEntry]) -> None:
        """Commit replies to the ledger. Doing so twice does no harm."""
        with self._writing():
            for entry in entries:
                self._insert_reply(entry)
                # Without our claim the money was counted before: by us, or as unsure when the
                # claim was taken for a dead client's.
                if self._delete_claim(entry.reply.key):
                    self._count(usd=entry.reply.usd)
        if not self._noted:
            note_count(self.path, self._count_replies())
            self._noted = True

    # Inside a transaction

    def _insert_reply(self, entry: LedgerEntry) -> None:
        reply, counted = entry.reply, _ALL_COUNTED
        if entry.usage_estimated:
            counted = _PROMPT_ESTIMATED if reply.counted else 1
        self._row = f"the reply {reply.key[:12]} of {self.model}"
        row = (
            reply.key, self.model, entry.endpoint, entry.attempt, entry.request, reply.text,
            reply.finish_reason, reply.prompt_tokens, reply.completion_tokens,
            counted, reply.usd, reply.seconds, time.time(), reply.reasoning,
        )  # fmt: skip
        # Not OR IGNORE, which would also drop a row with any other error.
        self._insert("replies", row, "ON CONFLICT (key) DO NOTHING")
        self._row = ""

    def _insert(self, table: str, row: tuple[object, ...], unless: str = "") -> None:
        self._db.execute(f"INSERT INTO {table} VALUES ({_marks(len(row))}) {unless}", row)

    def _count_replies(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM replies").fetchone()[0])

    def _count_clients(self) -> int:
        others = self._db.execute(
            "SELECT COUNT(DISTINCT owner) FROM claims WHERE model = ? AND owner != ?",
            (self.model, self.owner),
        )
        return int(others.fetchone()[0]) + 1

    def _insert_claim(self, key: str, worst: float) -> None:
        expires = time.time() + self.lease_seconds
        row = (key, self.model, self.owner, self._machine, os.getpid(), expires, worst)
        self._insert("claims", row)
        self._count(calls=1)

    def _delete_claim(self, key: str) -> bool:
        ours = (key, self.owner)
        return self._db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", ours).rowcount > 0

    def _renew(self, condition: str, *values: str) -> int:
        update = f"UPDATE claims SET expires = ? WHERE {condition}"
        return self._db.execute(update, (time.time() + self.lease_seconds, *values)).rowcount

    def _is_claimed(self, key: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM claims WHERE key = ?", (key,)).fetchone())

    def _free_dead(self) -> None:
        self._free("expires < ?", (time.time(),), "the client's lease ran out")
        local = "SELECT DISTINCT pid FROM claims WHERE machine = ?"
        for (pid,) in self._db.execute(local, (self._machine,)).fetchall():
            if not _is_alive(pid):
                self._free("machine = ? AND pid = ?", (self._machine, pid), "the client died")

    def _free(self, condition: str, values: tuple[object, ...], reason: str) -> None:
        rows = self._db.execute(
            f"SELECT key, model, reserved_usd FROM claims WHERE {condition}", values
        ).fetchall()
        self._db.execute(f"DELETE FROM claims WHERE {condition}", values)
        for key, model, reserved in rows:
            self._count(unsure=reserved, model=model)
            self._log_failure(key, model, reason, reserved)

    def _log_failure(self, key: str, model: str, reason: str, unsure: float) -> None:
        self._insert("failures", (key, model, reason, unsure, time.time()))

    def _count(
        self, *, calls: int = 0, usd: float = 0.0, unsure: float = 0.0, model: str = ""
    ) -> None:
        self._db.execute(
            "INSERT INTO spending VALUES (?, ?, ?, ?) ON CONFLICT (model) DO UPDATE SET "
            "calls = calls + excluded.calls, usd = usd + excluded.usd, "
            "unsure_usd = unsure_usd + excluded.unsure_usd",
            (model or self.model, calls, usd, unsure),
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite itself ends the transaction.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
            raise UserError(explain_error(self.path, error, self._row)) from error


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

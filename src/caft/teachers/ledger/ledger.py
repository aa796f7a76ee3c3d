"""One client of a ledger: it claims keys under the caps, and commits the replies that it bought."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from caft.teachers.ledger.claims import Claim, ClaimTable
from caft.teachers.ledger.database import Place
from caft.teachers.ledger.opening import open_database
from caft.teachers.ledger.tables import (
    Row,
    insert,
    is_sound,
    real,
    refuse_damaged,
    refuse_fault,
    select,
    sign,
)
from caft.teachers.prices import Caps, Spending, count_bytes
from caft.teachers.replies import LedgerEntry, TeacherReply

LEASE_SECONDS = 60.0
"""Seconds after which a claim that was not renewed is free again."""

_ALL_COUNTED, _PROMPT_ESTIMATED = 0, 2
"""Values of usage_estimated: the server counted all tokens, or only the reply's; 1: none."""


@dataclass(slots=True)
class Claims:
    """The result of claiming keys.

    `taken` are claimed by this client, `bought` are already answered, `held` are claimed by others
    (`batched` of them by a provider's batch), and `capped` did not fit under the caps, given
    `spending`. `clients` is the number of clients that now ask the same model, this one included.
    """

    taken: list[str] = field(default_factory=list)
    bought: list[TeacherReply] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    batched: int = 0
    capped: list[str] = field(default_factory=list)
    spending: Spending = field(default_factory=Spending)
    clients: int = 1


L = TypeVar("L", bound="Ledger")
P = ParamSpec("P")
T = TypeVar("T")


def _transaction(
    writes: bool,
) -> Callable[[Callable[Concatenate[L, P], T]], Callable[Concatenate[L, P], T]]:
    """Makes a method one transaction. Its database may do it twice, which must do no harm."""

    def decorate(
        method: Callable[Concatenate[L, P], T],
    ) -> Callable[Concatenate[L, P], T]:
        def run(self: L, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return self.database.transact(lambda: method(self, *args, **kwargs), writes=writes)

        run.__doc__ = method.__doc__
        return run

    return decorate


reads, writes = _transaction(writes=False), _transaction(writes=True)


class Ledger:
    """The ledger at `place`, opened for one client that asks one model. Closing it ends its claims.

    One thread at a time may use it. `reads_only` writes nothing at all; where there is no ledger,
    it finds an empty one. Raises UserError if it cannot be read or written, if it has lost
    replies, and if a row that is used is not as it was written.
    """

    def __init__(
        self,
        place: Place,
        model: str,
        *,
        lease_seconds: float = LEASE_SECONDS,
        reads_only: bool = False,
    ) -> None:
        self.model, self.lease_seconds = model, lease_seconds
        self.owner, self._machine = uuid.uuid4().hex, _name_machine()
        self._reads_only, self._renewed, self._noted = reads_only, _now(), False
        self._looked = False
        self.database = open_database(place, reads_only=reads_only)
        self.claims = ClaimTable(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free this client's claims, counting them as spent, and close the database."""
        try:
            if not self._reads_only:
                self._end_claims()
                self.database.note_replies()
        finally:
            self.database.close()

    # Reading

    def replies(self, keys: Iterable[str]) -> dict[str, TeacherReply]:
        """The replies that the ledger has, by key."""
        return {reply.key: reply for reply, _ in self.replies_and_endpoints(keys)}

    def replies_and_endpoints(self, keys: Iterable[str]) -> list[tuple[TeacherReply, str]]:
        """The replies that the ledger has, each with the address that wrote it."""
        return self._read_replies(list(dict.fromkeys(keys)))

    @reads
    def _read_replies(self, keys: Sequence[str]) -> list[tuple[TeacherReply, str]]:
        return list(self._select(keys))

    def _select(self, keys: Sequence[str]) -> Iterator[tuple[TeacherReply, str]]:
        rows = self._find(select("replies", self.database.version), keys)
        refuse_damaged(self.database.name, "replies", rows)
        for (
            key, _, endpoint, _, _, text, finish, prompt, completion, estimated, usd, seconds, _,
            told, _,
        ) in rows:  # fmt: skip
            reply = TeacherReply(
                key=key, text=text, finish_reason=finish, prompt_tokens=prompt,
                completion_tokens=completion, usd=usd, seconds=seconds, from_ledger=True,
                counted=estimated in (_ALL_COUNTED, _PROMPT_ESTIMATED), reasoning=told,
            )  # fmt: skip
            yield reply, endpoint

    def _find(self, select: str, keys: Sequence[str]) -> list[Any]:
        """The rows with those keys, in bites that every database takes."""
        bites = (keys[start : start + 500] for start in range(0, len(keys), 500))
        return [
            row
            for bite in bites
            for row in self.database.execute(
                f"{select} WHERE key IN ({_marks(len(bite))})", bite
            ).fetchall()
        ]

    @reads
    def token_counts(self) -> list[tuple[int, int, int]]:
        """(bytes of the request, prompt tokens, completion tokens) of the model's replies.

        Those of one token, bought for its log-probabilities, tell no length of a rationale.
        """
        rows = self.database.execute(
            f"{select('replies', self.database.version)} "
            "WHERE model = ? AND usage_estimated = 0 AND completion_tokens > 1 LIMIT 5000",
            (self.model,),
        ).fetchall()
        refuse_damaged(self.database.name, "replies", rows)
        return [(count_bytes(row[4]), row[7], row[8]) for row in rows]

    @reads
    def spending(self) -> Spending:
        """What the model has cost so far, in flight included."""
        return self._sum_spending(self.claims.read())

    def _sum_spending(self, claims: Sequence[Claim]) -> Spending:
        # All of them: a damaged name would hide what its model has cost.
        every = self.database.execute(select("spending", self.database.version)).fetchall()
        refuse_damaged(self.database.name, "spending", every)
        paid = {model: rest for model, *rest, _ in every}.get(self.model, (0, 0.0, 0.0))
        own = [claim for claim in claims if claim.model == self.model]
        calls, usd, unsure = paid
        return Spending(
            calls=calls, usd=usd, unsure_usd=unsure,
            reserved_usd=sum((claim.reserved_usd for claim in own), 0.0),
            in_flight=sum(not claim.in_batch for claim in own),
        )  # fmt: skip

    # Claims

    def claim(self, wanted: Sequence[tuple[str, float]], caps: Caps) -> Claims:
        """Claim (key, worst USD) pairs, each counted as one call that is about to be sent."""
        if not self._looked:  # once, before anything is bought
            fault = self.database.transact(self.database.find_fault, writes=False)
            refuse_fault(self.database.name, fault)
            self._looked = True
        return self._claim(wanted, caps)

    @writes
    def _claim(self, wanted: Sequence[tuple[str, float]], caps: Caps) -> Claims:
        claims, keys = Claims(), [key for key, _ in wanted]
        there = self._free_dead(self.claims.read())
        bought = {reply.key: reply for reply, _ in self._select(keys)}
        others = {claim.key: claim for claim in there}
        spending, new = self._sum_spending(there), []
        for key, worst in wanted:
            if key in bought:
                claims.bought.append(bought[key])
            elif (other := others.get(key)) is not None:
                # Our own was made just now, and the connection was lost.
                (claims.taken if other.owner == self.owner else claims.held).append(key)
                claims.batched += other.in_batch
            elif not spending.fits(caps, worst):
                claims.capped.append(key)
            else:
                spending = replace(
                    spending,
                    calls=spending.calls + 1,
                    reserved_usd=spending.reserved_usd + worst,
                    in_flight=spending.in_flight + 1,
                )
                claims.taken.append(key)
                new.append((key, worst))
        self._insert_claims(new)
        clients = {each.owner for each in there if each.model == self.model and not each.in_batch}
        claims.spending, claims.clients = spending, len(clients | {self.owner})
        return claims

    @writes
    def give_up(self, key: str, reason: str, unsure: float) -> None:
        """End a claim without a reply; `unsure` is what the failed call may have cost.

        Nothing happens if another client has taken it while this machine slept.
        """
        if self._delete_claim(key):
            self._count(unsure=unsure)
            self._log_failure(key, self.model, reason, unsure)

    @writes
    def release(self, keys: Sequence[str]) -> None:
        """End claims whose call was never sent."""
        if keys:
            self._count(calls=-sum(self._delete_claim(key) for key in keys))

    def renew(self) -> None:
        """Show the other clients that this one is alive."""
        # Before the database is asked: the lease begins at the earliest now.
        asked = _now()
        self._renew_all()
        self._renewed = asked

    def may_have_lapsed(self) -> bool:
        """Whether the claims were not renewed in time: the machine slept, or was suspended."""
        return _now() > self._renewed + self.lease_seconds

    @writes
    def hold(self, key: str) -> bool:
        """Whether the claim is still this client's; if so it is renewed."""
        return self._renew("key = ? AND owner = ?", key, self.owner) > 0

    def commit(self, entries: Sequence[LedgerEntry]) -> None:
        """Commit replies to the ledger. Doing so twice does no harm."""
        self._commit(entries)
        if not self._noted:
            self.database.note_replies()
            self._noted = True

    # Inside a transaction

    @writes
    def _commit(self, entries: Sequence[LedgerEntry]) -> None:
        for entry in entries:
            self._insert_reply(entry)
            # Without our claim the money was counted before: by us, or as unsure when the
            # claim was taken for a dead client's.
            if self._delete_claim(entry.reply.key):
                self._count(usd=entry.reply.usd)

    @writes
    def _end_claims(self) -> None:
        self._free(self.claims.read_sound("owner = ?", self.owner), "the client stopped")

    @writes
    def _renew_all(self) -> None:
        self._renew("owner = ?", self.owner)

    def _insert_reply(self, entry: LedgerEntry) -> None:
        reply, counted = entry.reply, _ALL_COUNTED
        if entry.usage_estimated:
            counted = _PROMPT_ESTIMATED if reply.counted else 1
        self.database.writing = f"the reply {reply.key[:12]} of {self.model}"
        row = (
            reply.key, self.model, entry.endpoint, entry.attempt, entry.request, reply.text,
            reply.finish_reason, reply.prompt_tokens, reply.completion_tokens,
            counted, real(reply.usd), real(reply.seconds), time.time(), reply.reasoning,
        )  # fmt: skip
        # Not OR IGNORE, which would also drop a row with any other error.
        self._insert("replies", row, "ON CONFLICT (key) DO NOTHING")
        self.database.writing = ""

    def _insert(self, table: str, row: Row, unless: str = "") -> None:
        self.database.execute(f"{insert(table)} {unless}", sign(row))

    def _insert_claims(self, wanted: Sequence[tuple[str, float]]) -> None:
        if wanted:
            until, pid = real(self.claims.now() + self.lease_seconds), os.getpid()
            self.claims.add([
                Claim(key, self.model, self.owner, self._machine, pid, until, real(worst))
                for key, worst in wanted
            ])  # fmt: skip
            self._count(calls=len(wanted))

    def _delete_claim(self, key: str) -> bool:
        delete = "DELETE FROM claims WHERE key = ? AND owner = ?"
        return self.database.execute(delete, (key, self.owner)).rowcount > 0

    def _renew(self, condition: str, *values: str) -> int:
        until = real(self.claims.now() + self.lease_seconds)
        held = self.claims.read_sound(condition, *values)
        self.claims.change(claim._replace(expires=until) for claim in held)
        return len(held)

    def _free_dead(self, claims: Sequence[Claim]) -> list[Claim]:
        """End those that nobody renews; the others."""
        now = self.claims.now()
        pids = {claim.pid for claim in claims if claim.machine == self._machine}
        dead = {pid for pid in pids if not _is_alive(pid)}
        late = [claim for claim in claims if claim.expires < now]
        self._free(late, "the client's lease ran out")
        here = [claim for claim in claims if claim.expires >= now]
        gone = [each for each in here if each.machine == self._machine and each.pid in dead]
        self._free(gone, "the client died")
        ended = set(gone)
        return [claim for claim in here if claim not in ended]

    def _free(self, claims: Sequence[Claim], reason: str) -> None:
        self.claims.delete(claims)
        for claim in claims:
            if claim.is_unsent:
                self._count(calls=-1, model=claim.model)
                continue
            self._count(unsure=claim.reserved_usd, model=claim.model)
            self._log_failure(claim.key, claim.model, reason, claim.reserved_usd)

    def _log_failure(self, key: str, model: str, reason: str, unsure: float) -> None:
        self._insert("failures", (key, model, reason, real(unsure), time.time()))

    def _count(
        self, *, calls: int = 0, usd: float = 0.0, unsure: float = 0.0, model: str = ""
    ) -> None:
        model = model or self.model
        before = self.database.execute(
            f"{select('spending', self.database.version)} WHERE model = ?", (model,)
        ).fetchone() or (model, 0, 0.0, 0.0, None)
        if not is_sound(before):
            # A reply that was paid for is kept all the same; the next claim is refused, and a row
            # that is dropped is summed again.
            return
        row = sign((model, before[1] + calls, real(before[2] + usd), real(before[3] + unsure)))
        self.database.execute(
            f"{insert('spending')} ON CONFLICT (model) DO UPDATE SET calls = excluded.calls, "
            "usd = excluded.usd, unsure_usd = excluded.unsure_usd, checksum = excluded.checksum",
            row,
        )


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _now() -> float:
    """Seconds, those of a machine that slept included, which a monotonic clock leaves out."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.time() if clock is None else time.clock_gettime(clock)


def _name_machine() -> str:
    # Process ids mean something only within one machine, since its start, and one container. Host
    # names are not enough: cloned machines share them.
    space, boot = Path("/proc/self/ns/pid"), Path("/proc/sys/kernel/random/boot_id")
    inside = os.stat(space).st_ino if space.exists() else 0
    machine = boot.read_text() if boot.exists() else uuid.getnode()
    return hashlib.sha256(f"{socket.gethostname()}:{inside}:{machine}".encode()).hexdigest()[:16]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

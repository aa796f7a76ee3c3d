"""Requests that are out in a provider's batch, which answers within a day.

In the ledger a batch is a client: it owns the claims of its requests, and its machine is the
provider's. So no other client sends them, and the caps count them. It is never taken for dead: its
claims end when its results are read, or with the provider's own copy of them. Until a batch is
created its claims have an owner whose death costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from caft.errors import UserError, count_of
from caft.teachers.ledger.claims import KEPT_SECONDS, UNSENT, Claim
from caft.teachers.ledger.database import Place
from caft.teachers.ledger.ledger import Claims, Ledger, reads, writes
from caft.teachers.ledger.opening import refuse_missing
from caft.teachers.ledger.tables import real, refuse_damaged, select
from caft.teachers.prices import Caps
from caft.teachers.replies import LedgerEntry

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """A batch that was handed over `age` seconds ago, by the database's clock.

    `id` is ours; `batch` is the provider's, empty as long as it is not known whether the call that
    creates it arrived. `keys` are the requests in it that were asked for.
    """

    id: str
    file: str
    batch: str
    age: float
    keys: frozenset[str]


class BatchLedger(Ledger):
    """A ledger that knows batches. A client that `sends` them claims what is not sent yet."""

    def __init__(
        self, place: Place, model: str, *, reads_only: bool = False, sends: bool = False
    ) -> None:
        super().__init__(place, model, reads_only=reads_only)
        self.owner = f"{UNSENT if sends else ''}{self.owner}"

    @reads
    def find_batches(self, keys: Sequence[str]) -> list[SentBatch]:
        """The batches that hold any of these requests, oldest first."""
        wanted, now = set(keys), self.claims.now()
        found: dict[str, list[Claim]] = {}
        for claim in self.claims.read():
            if claim.in_batch and claim.key in wanted:
                found.setdefault(claim.owner, []).append(claim)
        batches = [_read_batch(claims, now) for claims in found.values()]
        return sorted(batches, key=lambda batch: -batch.age)

    def claim_to_send(
        self, wanted: Sequence[tuple[str, float]], caps: Caps, sends: int
    ) -> tuple[Claims, dict[str, list[float]]]:
        """Claim keys, but none that was sent `sends` times without a result in whatever run.

        The latter with the USD that each time may have cost. Of free models nothing is known.
        """
        claims = self.claim(wanted, caps)
        # Nobody else sends what is claimed, so that none of these numbers can grow meanwhile.
        costs = self._find_lost() if claims.taken else {}
        lost = {key: costs[key] for key in claims.taken if len(costs.get(key, ())) >= sends}
        self.release(list(lost))
        claims.taken = [key for key in claims.taken if key not in lost]
        return claims, lost

    @reads
    def _find_lost(self) -> dict[str, list[float]]:
        """What each call without a result may have cost, by key."""
        query = f"{select('failures', self.database.version)} WHERE unsure_usd <> 0"
        rows = self.database.execute(query).fetchall()
        refuse_damaged(self.database.name, "failures", rows)
        found: dict[str, list[float]] = {}
        for key, _, _, usd, *_ in rows:
            found.setdefault(key, []).append(usd)
        return found

    @writes
    def hand_over(self, file: str, count: int, name: str) -> bool:
        """Make all claims of this client those of batch `name`, just before it is created.

        False, and nothing is done, unless they are still `count`: a machine that slept has lost
        some to another client.
        """
        held = [each for each in self.claims.read() if each.owner in (self.owner, name)]
        if len(held) != count:
            return False
        until = real(self.claims.now() + KEPT_SECONDS)
        self.claims.change(
            each._replace(owner=name, machine=file, pid=0, expires=until)
            for each in held
            if each.owner == self.owner
        )
        return True

    @writes
    def take_over(self, batch: SentBatch, after: float) -> bool:
        """Become the one client that may create this batch, `after` so many seconds without one."""
        until = real(self.claims.now() + KEPT_SECONDS)
        late = [
            each._replace(expires=until)
            for each in self.claims.read()
            if (each.owner, each.machine) == (batch.id, batch.file) and each.expires < until - after
        ]
        self.claims.change(late)
        return bool(late)

    @writes
    def note_created(self, batch: SentBatch, provider_id: str) -> None:
        """Write down what the provider calls it."""
        machine = f"{batch.file} {provider_id}"
        claims = self.claims.read_sound("owner = ?", batch.id)
        self.claims.change(each._replace(machine=machine) for each in claims)

    def commit_from(self, batch: SentBatch, entries: Sequence[LedgerEntry]) -> None:
        """Commit replies of a batch. Doing so twice does no harm."""
        self._as_batch(batch, lambda: self.commit(entries))

    def end(self, batch: SentBatch, failures: Sequence[tuple[str, str, float]]) -> None:
        """End claims of requests that failed: (key, reason, what it may have cost)."""
        self._as_batch(batch, lambda: self._end(failures))

    @writes
    def _end(self, failures: Sequence[tuple[str, str, float]]) -> None:
        for key, reason, unsure in failures:
            if self._delete_claim(key):
                self._count(unsure=unsure)
                self._log_failure(key, self.model, reason, unsure)

    @writes
    def undo(self, batch: SentBatch) -> None:
        """End all claims of a batch that the provider did not accept: they were no calls."""
        freed = self.database.execute("DELETE FROM claims WHERE owner = ?", (batch.id,)).rowcount
        self._count(calls=-freed)

    @writes
    def forget(self, batch: str) -> tuple[int, float, list[str]]:
        """Give up the batch that the provider calls so; its requests may have been charged.

        How many there were, their highest cost in USD, and the batches that are out.
        """
        out = [each for each in self.claims.read() if each.in_batch]
        found = [each for each in out if each.batch_name == batch]
        self._free(found, f"batch {batch} was given up")
        names = sorted({each.batch_name for each in out})
        return len(found), sum(each.reserved_usd for each in found), names

    def _as_batch(self, batch: SentBatch, work: Callable[[], T]) -> T:
        mine, self.owner = self.owner, batch.id
        try:
            return work()
        finally:
            self.owner = mine


def _read_batch(claims: Sequence[Claim], now: float) -> SentBatch:
    one = claims[0]
    file, _, batch = one.machine.partition(" ")
    age = now + KEPT_SECONDS - one.expires
    keys = frozenset(each.key for each in claims)
    return SentBatch(id=one.owner, file=file, batch=batch, age=age, keys=keys)


def forget_batch(place: Place, batch: str) -> str:
    """Give up a batch, and what that means, for the user; UserError if none is called so."""
    refuse_missing(place)
    with BatchLedger(place, "") as ledger:
        count, usd, out = ledger.forget(batch)
    if not count:
        given = f"out are {', '.join(out)}" if out else "none is out"
        raise UserError(f"{place} knows of no batch {batch!r}; {given}")
    return (
        f"batch {batch} is given up: {count_of(count, 'request')} can be bought again, and up to "
        f"{usd:.4f} USD counts as spent on it"
    )

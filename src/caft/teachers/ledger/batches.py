"""Requests that are out in a provider's batch, which answers within a day.

In the ledger a batch is a client: it owns the claims of its requests, and its machine is the
provider's. So no other client sends them, and the caps count them. It is never taken for dead: its
claims end when its results are read, or with the provider's own copy of them. Until a batch is
created its claims have an owner whose death costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from caft.errors import UserError, count_of
from caft.teachers.ledger.database import Place, is_address
from caft.teachers.ledger.ledger import IN_BATCH, UNSENT, Ledger
from caft.teachers.replies import LedgerEntry

KEPT_SECONDS = 30 * 86_400.0
"""How long a provider keeps the results of a batch; then its claims lapse and count as spent."""

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

    def find_batches(self, keys: Sequence[str]) -> list[SentBatch]:
        """The batches that hold any of these requests, oldest first."""
        return self.database.transact(lambda: self._find_batches(keys), writes=False)

    def _find_batches(self, keys: Sequence[str]) -> list[SentBatch]:
        select = f"SELECT key, owner, machine, {self.database.clock} - expires FROM claims"
        found: dict[str, list[tuple[str, str, float]]] = {}
        for key, owner, machine, ago in self._find(select, keys):
            if owner.startswith(IN_BATCH):
                found.setdefault(owner, []).append((key, machine, ago + KEPT_SECONDS))
        batches = [_read_batch(owner, rows) for owner, rows in found.items()]
        return sorted(batches, key=lambda batch: -batch.age)

    def hand_over(self, file: str, count: int, name: str) -> bool:
        """Make all claims of this client those of batch `name`, just before it is created.

        False, and nothing is done, unless they are still `count`: a machine that slept has lost
        some to another client.
        """
        return self.database.transact(lambda: self._hand_over(file, count, name))

    def _hand_over(self, file: str, count: int, name: str) -> bool:
        held = self.database.execute(
            "SELECT COUNT(*) FROM claims WHERE owner = ? OR owner = ?", (self.owner, name)
        ).fetchone()
        if held[0] != count:
            return False
        self.database.execute(
            "UPDATE claims SET owner = ?, machine = ?, pid = 0, "
            f"expires = {self.database.clock} + ? WHERE owner = ?",
            (name, file, KEPT_SECONDS, self.owner),
        )
        return True

    def take_over(self, batch: SentBatch, after: float) -> bool:
        """Become the one client that may create this batch, `after` so many seconds without one."""
        expires = f"expires = {self.database.clock} + ?"
        condition = f"owner = ? AND machine = ? AND expires < {self.database.clock} + ?"
        statement = f"UPDATE claims SET {expires} WHERE {condition}"
        values = (KEPT_SECONDS, batch.id, batch.file, KEPT_SECONDS - after)
        return self.database.transact(lambda: self.database.execute(statement, values).rowcount) > 0

    def note_created(self, batch: SentBatch, provider_id: str) -> None:
        """Write down what the provider calls it."""
        statement = "UPDATE claims SET machine = ? WHERE owner = ?"
        values = (f"{batch.file} {provider_id}", batch.id)
        self.database.transact(lambda: self.database.execute(statement, values))

    def commit_from(self, batch: SentBatch, entries: Sequence[LedgerEntry]) -> None:
        """Commit replies of a batch. Doing so twice does no harm."""
        self._as_batch(batch, lambda: self.commit(entries))

    def end(self, batch: SentBatch, failures: Sequence[tuple[str, str, float]]) -> None:
        """End claims of requests that failed: (key, reason, what it may have cost)."""
        self._as_batch(batch, lambda: self.database.transact(lambda: self._end(failures)))

    def _end(self, failures: Sequence[tuple[str, str, float]]) -> None:
        for key, reason, unsure in failures:
            if self._delete_claim(key):
                self._count(unsure=unsure)
                self._log_failure(key, self.model, reason, unsure)

    def undo(self, batch: SentBatch) -> None:
        """End all claims of a batch that the provider did not accept: they were no calls."""
        self.database.transact(lambda: self._undo(batch.id))

    def _undo(self, name: str) -> None:
        freed = self.database.execute("DELETE FROM claims WHERE owner = ?", (name,)).rowcount
        self._count(calls=-freed)

    def forget(self, batch: str) -> tuple[int, float, list[str]]:
        """Give up the batch that the provider calls so; its requests may have been charged.

        How many there were, their highest cost in USD, and the batches that are out.
        """
        return self.database.transact(lambda: self._forget(batch))

    def _forget(self, batch: str) -> tuple[int, float, list[str]]:
        every = self.database.execute(
            "SELECT machine, COUNT(*), SUM(reserved_usd) FROM claims WHERE owner LIKE ? "
            "GROUP BY machine",
            (f"{IN_BATCH}%",),
        ).fetchall()
        # A batch that nobody knows to be created has only the name of its file.
        found = {machine: tuple(rest) for machine, *rest in every if machine.split()[-1] == batch}
        for machine in found:
            self._free("machine = ?", (machine,), f"batch {batch} was given up")
        counts, usd = zip(*found.values(), strict=True) if found else ((), ())
        return sum(counts), sum(usd), [machine.split()[-1] for machine, *_ in every]

    def _as_batch(self, batch: SentBatch, work: Callable[[], T]) -> T:
        mine, self.owner = self.owner, batch.id
        try:
            return work()
        finally:
            self.owner = mine


def _read_batch(owner: str, rows: Sequence[tuple[str, str, float]]) -> SentBatch:
    file, _, batch = rows[0][1].partition(" ")
    keys = frozenset(key for key, *_ in rows)
    return SentBatch(id=owner, file=file, batch=batch, age=rows[0][2], keys=keys)


def forget_batch(place: Place, batch: str) -> str:
    """Give up a batch, and what that means, for the user; UserError if none is called so."""
    if not is_address(place) and not Path(place).is_file():
        raise UserError(f"there is no ledger at {place}; give the file of one, or its address")
    with BatchLedger(place, "") as ledger:
        count, usd, out = ledger.forget(batch)
    if not count:
        given = f"out are {', '.join(out)}" if out else "none is out"
        raise UserError(f"{place} knows of no batch {batch!r}; {given}")
    return (
        f"batch {batch} is given up: {count_of(count, 'request')} can be bought again, and up to "
        f"{usd:.4f} USD counts as spent on it"
    )

"""The table of claims: which client has sent which request, until when, and what it may cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from caft.teachers.ledger.database import Database
from caft.teachers.ledger.tables import Row, insert, is_sound, real, refuse_damaged, select, sign

UNSENT, IN_BATCH = "unsent-", "batch-"
"""How owners of claims begin whose requests are not sent yet, and are in a provider's batch."""

KEPT_SECONDS = 30 * 86_400.0
"""How long a provider keeps the results of a batch; then its claims lapse and count as spent."""


class Claim(NamedTuple):
    """A request that `owner` has sent, or is about to; its columns but the checksum, in order.

    `expires` is in seconds of the database's clock.
    """

    key: str
    model: str
    owner: str
    machine: str
    pid: int
    expires: float
    reserved_usd: float

    @property
    def is_unsent(self) -> bool:
        """Whether the end of its owner costs nothing."""
        return self.owner.startswith(UNSENT)

    @property
    def in_batch(self) -> bool:
        """Whether it is in a provider's batch."""
        return self.owner.startswith(IN_BATCH)

    @property
    def batch_name(self) -> str:
        """The provider's for its batch; for one that nobody knows to be created, its file's."""
        return self.machine.split()[-1]


class ClaimTable:
    """The claims of a database, inside a transaction.

    A row that changed on the disk is never renewed, handed over or freed: it stays until whoever
    claims next is told of it. So it frees no request, and its money is not forgotten.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._compared: set[Row] = set()

    def now(self) -> float:
        """By the database's clock."""
        (now,) = self._database.execute(f"SELECT {self._database.clock}").fetchone()
        return real(now)

    def read(self) -> list[Claim]:
        """All: one with another key or owner is found by no condition. UserError for damage."""
        rows = self._database.execute(select("claims", self._database.version)).fetchall()
        # Those of batches are many, and stay for a day: each is compared once.
        fresh = [row for row in rows if row not in self._compared]
        refuse_damaged(self._database.name, "claims", fresh)
        self._compared = set(rows)
        return [Claim._make(row[:-1]) for row in rows]

    def read_sound(self, condition: str, *values: object) -> list[Claim]:
        """Those that match and are as they were written."""
        rows = self._database.execute(
            f"{select('claims', self._database.version)} WHERE {condition}", values
        ).fetchall()
        return [Claim._make(row[:-1]) for row in rows if is_sound(row)]

    def add(self, claims: Sequence[Claim]) -> None:
        """Write new ones."""
        self._database.execute_many(insert("claims"), [sign(claim) for claim in claims])

    def change(self, claims: Iterable[Claim]) -> None:
        """Write those that have these keys anew."""
        self._database.execute_many(
            "UPDATE claims SET owner = ?, machine = ?, pid = ?, expires = ?, checksum = ? "
            "WHERE key = ?",
            [(*claim[2:6], sign(claim)[-1], claim.key) for claim in claims],
        )

    def delete(self, claims: Iterable[Claim]) -> None:
        """End those with these keys."""
        self._database.execute_many(
            "DELETE FROM claims WHERE key = ?", [(claim.key,) for claim in claims]
        )

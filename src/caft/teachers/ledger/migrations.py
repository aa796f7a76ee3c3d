"""The versions of the ledger's tables: each migration brings those of the one before up to it.

A migration runs in one writing transaction and keeps every reply. `tables.py` says which columns
came with which version, since a ledger that is only read stays as old as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from caft.errors import UserError, count_of
from caft.teachers.ledger.claims import KEPT_SECONDS, Claim
from caft.teachers.ledger.database import Database
from caft.teachers.ledger.tables import insert, select, sign

_AT_ONCE = 500
_SENDING_SECONDS = 600.0
"""How long a batch may be under way to its provider; then its name there is written down."""


def _add_reasoning(database: Database) -> None:
    database.execute("ALTER TABLE replies ADD COLUMN reasoning TEXT")


def _add_checksums(database: Database) -> None:
    """Sign every row as it is now."""
    # An older CAFT cannot write into the new tables what it has paid for.
    _refuse_in_flight(database, lambda _now, _claim: False)
    for table in ("replies", "spending", "failures"):
        database.execute(f"ALTER TABLE {table} ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")
    _sign_replies(database)
    for table in ("spending", "failures"):
        _sign_all(database, table, 3)


def _sign_claims(database: Database) -> None:
    """Those of batches, which are out for days, are kept. Others an older CAFT would renew."""
    _refuse_in_flight(database, _stays_as_it_is)
    database.execute("ALTER TABLE claims ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")
    _sign_all(database, "claims", 4)


def _stays_as_it_is(now: float, claim: Claim) -> bool:
    """Whether its owner writes no more to it."""
    is_named = " " in claim.machine
    return claim.in_batch and (is_named or claim.expires < now + KEPT_SECONDS - _SENDING_SECONDS)


def _refuse_in_flight(database: Database, but: Callable[[float, Claim], bool]) -> None:
    (now,) = database.execute(f"SELECT {database.clock}").fetchone()
    rows = database.execute(select("claims", database.version)).fetchall()
    claims = [Claim._make(row[:-1]) for row in rows]
    alive = [each for each in claims if each.expires > now and not but(now, each)]
    if alive:
        raise UserError(
            f"{count_of(len(alive), 'call')} of an older CAFT in flight from {database.name}: wait "
            "until its runs have ended (a minute, if one was killed)"
        )


def _sign_all(database: Database, table: str, version: int) -> None:
    rows = database.execute(select(table, version)).fetchall()
    database.execute(f"DELETE FROM {table}")
    database.execute_many(insert(table), [sign(row[:-1]) for row in rows])


def _sign_replies(database: Database) -> None:
    last, batch = "", f"{select('replies', 3)} WHERE key > ? ORDER BY key LIMIT {_AT_ONCE}"
    while rows := database.execute(batch, (last,)).fetchall():
        signed = [(sign(row[:-1])[-1], row[0]) for row in rows]
        database.execute_many("UPDATE replies SET checksum = ? WHERE key = ?", signed)
        last = rows[-1][0]


MIGRATIONS: dict[int, Callable[[Database], None]] = {
    2: _add_reasoning,
    3: _add_checksums,
    4: _sign_claims,
}
"""By the version that each makes. The first version is in `sqlite.py`, in PostgreSQL the second."""
VERSION = max(MIGRATIONS)


def bring_up_to_date(database: Database) -> None:
    """Do what the ledger's tables lack, inside a transaction."""
    for version in range(database.version + 1, VERSION + 1):
        MIGRATIONS[version](database)
        database.version = version

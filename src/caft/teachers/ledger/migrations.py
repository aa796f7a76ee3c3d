"""The versions of the ledger's tables: each migration brings those of the one before up to it.

A migration runs in one writing transaction and keeps every reply. `tables.py` says which columns
came with which version, since a ledger that is only read stays as old as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from caft.errors import UserError
from caft.teachers.ledger.database import Database
from caft.teachers.ledger.tables import TABLES, insert, select, sign

_AT_ONCE = 500


def _add_reasoning(database: Database) -> None:
    database.execute("ALTER TABLE replies ADD COLUMN reasoning TEXT")


def _add_checksums(database: Database) -> None:
    """Sign every row as it is now."""
    alive = f"SELECT COUNT(*) FROM claims WHERE expires > {database.clock}"
    if calls := database.execute(alive).fetchone()[0]:
        # An older CAFT, which cannot write into the new tables what it has paid for.
        raise UserError(
            f"{calls} calls of an older CAFT are in flight from {database.name}: wait until its "
            "runs have ended (a minute, if one was killed)"
        )
    for table in TABLES:
        database.execute(f"ALTER TABLE {table} ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")
    _sign_replies(database)
    for table in ("spending", "failures"):
        rows = database.execute(select(table, 3)).fetchall()
        database.execute(f"DELETE FROM {table}")
        database.execute_many(insert(table), [sign(row[:-1]) for row in rows])


def _sign_replies(database: Database) -> None:
    last, batch = "", f"{select('replies', 3)} WHERE key > ? ORDER BY key LIMIT {_AT_ONCE}"
    while rows := database.execute(batch, (last,)).fetchall():
        signed = [(sign(row[:-1])[-1], row[0]) for row in rows]
        database.execute_many("UPDATE replies SET checksum = ? WHERE key = ?", signed)
        last = rows[-1][0]


MIGRATIONS: dict[int, Callable[[Database], None]] = {2: _add_reasoning, 3: _add_checksums}
"""By the version that each makes. The first version is in `sqlite.py`, in PostgreSQL the second."""
VERSION = max(MIGRATIONS)


def bring_up_to_date(database: Database) -> None:
    """Do what the ledger's tables lack, inside a transaction."""
    for version in range(database.version + 1, VERSION + 1):
        MIGRATIONS[version](database)
        database.version = version

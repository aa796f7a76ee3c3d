"""Opens the database that an address names."""

from __future__ import annotations

from pathlib import Path

from caft.errors import UserError
from caft.teachers.ledger.database import Database, Place, as_path, is_address
from caft.teachers.ledger.postgres import PostgresDatabase
from caft.teachers.ledger.sqlite import SqliteDatabase, refuse_network_disk


def open_database(place: Place, *, reads_only: bool) -> Database:
    """The ledger at `place`; UserError if it cannot be used.

    One that `reads_only` writes nothing at all: where there is none, it is empty.
    """
    if is_address(place):
        database = PostgresDatabase(str(place), reads_only=reads_only)
        if database.has_tables:
            return database
        database.close()
        return SqliteDatabase(None, reads_only=True)
    return SqliteDatabase(as_path(place), reads_only=reads_only)


def refuse_missing(place: Place) -> None:
    """UserError if there is no file; whether a database has a ledger is known once it is asked."""
    if not is_address(place) and not Path(place).is_file():
        raise UserError(f"there is no ledger at {place}; give the file of one, or its address")


def check_ledger(place: Place) -> None:
    """UserError if the ledger cannot be used. A file is made only when it is first needed."""
    if is_address(place):
        open_database(place, reads_only=False).close()
    else:
        path = as_path(place)
        refuse_network_disk(path)
        if path.exists():
            open_database(path, reads_only=True).close()

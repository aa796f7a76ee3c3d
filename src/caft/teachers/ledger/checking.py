"""Compares every row of a ledger with its checksum, and drops those that differ."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from caft.errors import count_of
from caft.teachers.ledger.database import Database, Place
from caft.teachers.ledger.opening import open_database, refuse_missing
from caft.teachers.ledger.tables import (
    TABLES,
    Row,
    describe,
    insert,
    is_sound,
    real,
    refuse_damaged,
    refuse_fault,
    select,
    sign,
)

_BOUGHT = """
SELECT model, COUNT(*), SUM(usd), SUM(unsure) FROM (
    SELECT model, usd, 0.0 AS unsure FROM replies
    UNION ALL SELECT model, 0.0, unsure_usd FROM failures
    UNION ALL SELECT model, 0.0, 0.0 FROM claims
) AS calls GROUP BY model
"""
_MODELS = " UNION ".join(f"SELECT model FROM {table}" for table in TABLES)


def check_rows(place: Place, *, drop: bool) -> str:
    """What was found, for the user. UserError if rows are damaged, unless they are to be dropped.

    What was spent on a model whose row is dropped is summed again from its calls.
    """
    refuse_missing(place)
    database = open_database(place, reads_only=not drop)
    try:
        if not drop:
            return database.transact(lambda: _compare(database), writes=False)
        found = database.transact(lambda: _drop(database))
        database.note_replies(fewer=True)
        return found
    finally:
        database.close()


def _compare(database: Database) -> str:
    for table in TABLES:
        refuse_damaged(database.name, table, _read(database, table))
    refuse_fault(database.name, database.find_fault())
    if database.version < 3:
        return "its rows have no checksums yet: the next run that buys with it adds them"
    return _say_sound(database)


def _drop(database: Database) -> str:
    fault = database.find_fault()
    damaged = {table: _keep_sound(database, table, anew=bool(fault)) for table in TABLES}
    for row in damaged["claims"]:
        _count_as_charged(database, row)
    if damaged["spending"]:
        _sum_spending(database)
    dropped = [describe(table, rows) for table, rows in damaged.items() if rows]
    return f"dropped {', '.join(dropped)}" if dropped else _say_sound(database)


def _keep_sound(database: Database, table: str, *, anew: bool) -> list[Row]:
    """Write the table anew, since damage may hide a row from a search; the rows left out.

    Where all rows are sound, only if that was asked for.
    """
    rows = list(_read(database, table))
    damaged = [row for row in rows if not is_sound(row)]
    if damaged or anew:
        database.execute(f"DELETE FROM {table}")
        database.execute_many(insert(table), [row for row in rows if is_sound(row)])
    return damaged


def _count_as_charged(database: Database, row: Row) -> None:
    """A call that may have been made, by what is left of its claim."""
    # No database takes bytes that are no UTF-8 as text.
    key, told = (str(each).encode(errors="backslashreplace").decode() for each in row[:2])
    cost = row[-2]
    unsure = real(cost) if isinstance(cost, float) and 0 <= cost < math.inf else 0.0
    for model in _find_models(database, row) or [told]:
        failure = (key, model, "its claim changed on the disk", unsure, time.time())
        database.execute(insert("failures"), sign(failure))
        known = f"{select('spending', database.version)} WHERE model = ?"
        for _, calls, usd, before, _ in database.execute(known, (model,)).fetchall():
            spent = sign((model, calls, usd, real(before + unsure)))
            database.execute("DELETE FROM spending WHERE model = ?", (model,))
            database.execute(insert("spending"), spent)


def _find_models(database: Database, row: Row) -> list[str]:
    """Which model a damaged claim is of: any cap is one model's, and must see its cost.

    A name that nothing else was counted under is damaged. The checksum tells the right one, or,
    where more than the name changed, nothing does: then it may be any.
    """
    known = [name for (name,) in database.execute(_MODELS).fetchall()]
    right = [name for name in known if is_sound((row[0], name, *row[2:]))]
    return right or ([str(row[1])] if row[1] in known else known)


def _sum_spending(database: Database) -> None:
    known = {row[0]: row[1:4] for row in _read(database, "spending")}
    for model, *sums in database.execute(_BOUGHT).fetchall():
        # Under a damaged name its row was not found: what came later was counted in a new one.
        calls, *usd = map(max, sums, known.get(model, (0, 0.0, 0.0)))
        database.execute("DELETE FROM spending WHERE model = ?", (model,))
        database.execute(insert("spending"), sign((model, calls, *map(real, usd))))


def _say_sound(database: Database) -> str:
    (count,) = database.execute("SELECT COUNT(*) FROM replies").fetchone()
    rest = f"; {database.not_compared}" if database.not_compared else ""
    return f"{count_of(count, 'reply')} and what was paid are as they were written{rest}"


def _read(database: Database, table: str) -> Iterator[Row]:
    rows = database.execute(select(table, database.version))
    return iter(rows.fetchone, None)

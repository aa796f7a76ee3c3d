"""Copies one ledger into another: in one transaction, compared row by row, and harmless twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from caft.errors import UserError
from caft.teachers.ledger.database import Database, Place, as_path, is_address, mask_password
from caft.teachers.ledger.opening import open_database

Row: TypeAlias = tuple[object, ...]
_COLUMNS = (
    "key, model, endpoint, attempt, request, text, finish_reason, prompt_tokens, "
    "completion_tokens, usage_estimated, usd, seconds, arrived"
)
_AT_ONCE = 500


@dataclass(slots=True)
class Copied:
    """How many replies were copied, were there already, and were there with another content."""

    replies: int = 0
    known: int = 0
    others: int = 0

    def line(self) -> str:
        """For the user."""
        others = f", {self.others} of them bought there on their own and kept so"
        return (
            f"copied {self.replies} replies, {self.known} were there already"
            f"{others if self.others else ''}; all {self.replies + self.known} were compared"
        )


def copy_ledger(source: str, target: str) -> Copied:
    """Copy what `source` has and `target` has not: replies, failures, and what they cost.

    UserError where `source` is missing, is the same, or has calls in flight.
    """
    origin, goal = _place(source), _place(target)
    if origin == goal:
        raise UserError(f"FROM and TO are the same ledger, {origin}; give two")
    if isinstance(origin, Path) and not origin.is_file():
        raise UserError(f"there is no ledger at {origin}; give the file of one, or its address")
    old = open_database(origin, reads_only=True)
    try:
        new = open_database(goal, reads_only=False)
        try:
            copied = old.transact(lambda: _copy_into(old, new), writes=False)
            new.note_replies()
            return copied
        finally:
            new.close()
    finally:
        old.close()


def _place(text: str) -> Place:
    if is_address(text):
        return text
    path = as_path(text)
    if not path.name or "://" in text.removeprefix("sqlite:///"):
        raise UserError(
            f"{mask_password(text)!r} is no ledger; give a file, or postgresql://HOST/DATABASE"
        )
    return path.expanduser().resolve()


def _copy_into(old: Database, new: Database) -> Copied:
    """Both ledgers stay as they are until the end: one transaction each."""
    (alive,) = old.execute(f"SELECT COUNT(*) FROM claims WHERE expires > {old.clock}").fetchone()
    if alive:
        raise UserError(
            f"{alive} calls are in flight from {old.name}: wait until its runs have ended (a "
            "minute, if one was killed) and have taken the results of their batches, and copy then"
        )
    return new.transact(lambda: _copy_all(old, new))


def _copy_all(old: Database, new: Database) -> Copied:
    copied = Copied()
    had = {model for (model,) in new.execute("SELECT model FROM spending").fetchall()}
    extra: dict[str, tuple[int, float, float]] = {}
    for rows in _in_batches(old):
        known = {row[0]: row for row in _find(new, [row[0] for row in rows])}
        fresh = [row for row in rows if row[0] not in known]
        _insert(new, "replies", fresh)
        new_rows = {row[0]: row for row in _find(new, [row[0] for row in fresh])}
        if wrong := [row[0] for row in fresh if new_rows.get(row[0]) != row]:
            raise UserError(
                f"{new.name} does not give back reply {wrong[0]} as it was written; nothing was "
                "copied: this is a bug in CAFT, please report it"
            )
        copied.replies += len(fresh)
        copied.known += len(known)
        copied.others += sum(known[row[0]] != row for row in rows if row[0] in known)
        for row in fresh:
            _add(extra, row, usd=float(str(row[10])))
    for row in _failures(old, new):
        _insert(new, "failures", [row])
        _add(extra, row, unsure=float(str(row[3])))
    _copy_spending(old, new, had, extra)
    return copied


def _in_batches(database: Database) -> Iterator[list[Row]]:
    select = f"SELECT {_COLUMNS}, {database.reasoning} FROM replies"
    last = ""
    while rows := _read(database, f"{select} WHERE key > ? ORDER BY key LIMIT {_AT_ONCE}", last):
        yield rows
        last = str(rows[-1][0])


def _read(old: Database, statement: str, *values: object) -> list[Any]:
    """The rows of the ledger that is copied: a fault of it is not one of the other's."""
    try:
        return old.execute(statement, values).fetchall()
    except Exception as error:
        raise old.explain(error) from error


def _find(database: Database, keys: list[object]) -> list[Row]:
    if not keys:
        return []
    marks = ", ".join("?" * len(keys))
    rows: list[Row] = database.execute(
        f"SELECT {_COLUMNS}, {database.reasoning} FROM replies WHERE key IN ({marks})", keys
    ).fetchall()
    return rows


def _insert(database: Database, table: str, rows: list[Row]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        database.execute_many(f"INSERT INTO {table} VALUES ({marks})", rows)


def _failures(old: Database, new: Database) -> list[Row]:
    """Those that only `old` has, and its claims that nobody renews: their calls may be charged."""
    select = "SELECT key, model, reason, unsure_usd, at FROM failures"
    dead = "SELECT key, model, 'the client died', reserved_usd, expires FROM claims"
    there = set(new.execute(select).fetchall())
    rows: list[Row] = _read(old, select) + _read(old, dead)
    return [row for row in rows if row not in there]


def _add(
    extra: dict[str, tuple[int, float, float]], row: Row, *, usd: float = 0.0, unsure: float = 0.0
) -> None:
    calls, paid, charged = extra.get(str(row[1]), (0, 0.0, 0.0))
    extra[str(row[1])] = (calls + 1, paid + usd, charged + unsure)


def _copy_spending(
    old: Database, new: Database, had: set[str], extra: dict[str, tuple[int, float, float]]
) -> None:
    """As it was; where `new` had the model, by the rows that came, so that twice counts once."""
    dead = dict(_read(old, "SELECT model, SUM(reserved_usd) FROM claims GROUP BY model"))
    rows = _read(old, "SELECT model, calls, usd, unsure_usd FROM spending")
    for model, calls, usd, unsure in rows:
        if model not in had:
            _insert(new, "spending", [(model, calls, usd, unsure + dead.get(model, 0.0))])
        elif model in extra:
            new.execute(
                "UPDATE spending SET calls = calls + ?, usd = usd + ?, unsure_usd = unsure_usd + ? "
                "WHERE model = ?",
                (*extra[model], model),
            )

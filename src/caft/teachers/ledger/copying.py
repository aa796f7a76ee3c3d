"""Copies one ledger into another: in one transaction, compared row by row, and harmless twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from caft.errors import UserError, count_of
from caft.teachers.ledger.claims import Claim
from caft.teachers.ledger.database import Database, Place, as_path, is_address, mask_password
from caft.teachers.ledger.opening import open_database, refuse_missing
from caft.teachers.ledger.tables import (
    Row,
    insert,
    real,
    refuse_damaged,
    refuse_fault,
    select,
    sign,
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
            f"copied {count_of(self.replies, 'reply')}, found {self.known} there"
            f"{others if self.others else ''}; compared {self.replies + self.known}"
        )


def copy_ledger(source: str, target: str) -> Copied:
    """Copy what `source` has and `target` has not: replies, failures, and what they cost.

    UserError where `source` is missing, is the same, or has calls in flight, where a row of either
    is damaged, and where a run came in between: what it bought meanwhile is then named.
    """
    origin, goal = find_place(source), find_place(target)
    if origin == goal:
        raise UserError(f"FROM and TO are the same ledger, {origin}; give two")
    refuse_missing(origin)
    old = open_database(origin, reads_only=True)
    try:
        new = open_database(goal, reads_only=False)
        try:
            before, copied = old.transact(lambda: _copy_into(old, new), writes=False)
            new.note_replies()
            _refuse_newer(origin, before, new)
            return copied
        finally:
            new.close()
    finally:
        old.close()


def find_place(text: str) -> Place:
    """The file or the address that the command line names; UserError if it is neither."""
    if is_address(text):
        return text
    path = as_path(text)
    if not path.name or "://" in text.removeprefix("sqlite:///"):
        raise UserError(
            f"{mask_password(text)!r} is no ledger; give a file, or postgresql://HOST/DATABASE"
        )
    return path.expanduser().resolve()


def _refuse_newer(origin: Place, before: list[object], new: Database) -> None:
    """UserError if the ledger that was copied has changed since: a run has begun to use it."""
    # Opened again: a file that nobody wrote to is read without seeing what others write.
    old = open_database(origin, reads_only=True)
    try:
        missing = old.transact(lambda: _find_newer(old, before, new), writes=False)
    finally:
        old.close()
    if missing is not None:
        which = f" (such as {missing[0]})" if missing else ""
        raise UserError(
            f"a run began to use {old.name} while it was copied: {len(missing)} of its replies"
            f"{which} are not in {new.name}, all others are; wait until the run has ended, and "
            "copy again, which adds them"
        )


def _find_newer(old: Database, before: list[object], new: Database) -> list[str] | None:
    """Keys that `new` lacks; None if nothing has happened in `old`."""
    if _describe(old) == before:
        return None

    def find_missing() -> list[str]:
        return [
            str(row[0])
            for rows in _in_batches(old)
            for known in [{found[0] for found in _find(new, [row[0] for row in rows])}]
            for row in rows
            if row[0] not in known
        ]

    return new.transact(find_missing, writes=False)


def _describe(database: Database) -> list[object]:
    """What every purchase changes."""
    alive = f"SELECT COUNT(*) FROM claims WHERE expires > {database.clock}"
    counts = (alive, "SELECT COUNT(*) FROM replies", "SELECT COUNT(*) FROM failures")
    spent = _read(database, f"{select('spending', database.version)} ORDER BY model")
    return [_read(database, count)[0][0] for count in counts] + spent


def _copy_into(old: Database, new: Database) -> tuple[list[object], Copied]:
    """Both ledgers stay as they are until the end: one transaction each."""
    refuse_fault(old.name, old.find_fault())
    _read_claims(old)  # one whose time is damaged would be waited for
    before = _describe(old)
    if alive := int(str(before[0])):
        raise UserError(
            f"{count_of(alive, 'call')} in flight from {old.name}: wait until its runs have ended "
            "(a minute, if one was killed) and have taken the results of their batches, and copy "
            "then"
        )
    return before, new.transact(lambda: _copy_all(old, new))


def _copy_all(old: Database, new: Database) -> Copied:
    copied = Copied()
    rows = new.execute(select("spending", new.version)).fetchall()
    had = {str(row[0]): row for row in _check(new, "spending", rows)}
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
    every = select("replies", database.version)
    last = ""
    while rows := _read(database, f"{every} WHERE key > ? ORDER BY key LIMIT {_AT_ONCE}", last):
        yield _check(database, "replies", rows)
        last = str(rows[-1][0])


def _check(database: Database, table: str, rows: list[Row]) -> list[Row]:
    """The rows with checksums, which those of older tables lack; UserError if any is damaged."""
    refuse_damaged(database.name, table, rows)
    return [sign(row[:-1]) for row in rows]


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
        f"{select('replies', database.version)} WHERE key IN ({marks})", keys
    ).fetchall()
    return _check(database, "replies", rows)


def _insert(database: Database, table: str, rows: list[Row]) -> None:
    if rows:
        database.execute_many(insert(table), rows)


def _read_claims(old: Database) -> list[Claim]:
    rows = _check(old, "claims", _read(old, select("claims", old.version)))
    return [Claim._make(row[:-1]) for row in rows]


def _failures(old: Database, new: Database) -> list[Row]:
    """Those that only `old` has, and its claims that nobody renews: their calls may be charged."""
    there = set(new.execute(select("failures", new.version)).fetchall())
    rows = _check(old, "failures", _read(old, select("failures", old.version)))
    rows += [
        sign((claim.key, claim.model, "the client died", claim.reserved_usd, claim.expires))
        for claim in _read_claims(old)
        if not claim.is_unsent
    ]
    return [row for row in rows if row not in there]


def _add(
    extra: dict[str, tuple[int, float, float]], row: Row, *, usd: float = 0.0, unsure: float = 0.0
) -> None:
    calls, paid, charged = extra.get(str(row[1]), (0, 0.0, 0.0))
    extra[str(row[1])] = (calls + 1, paid + usd, charged + unsure)


def _copy_spending(
    old: Database,
    new: Database,
    had: dict[str, Any],
    extra: dict[str, tuple[int, float, float]],
) -> None:
    """As it was; where `new` had the model, by the rows that came, so that twice counts once."""
    claims = _read_claims(old)
    rows: list[Any] = _check(old, "spending", _read(old, select("spending", old.version)))
    for model, calls, usd, unsure, _ in rows:
        own = [claim for claim in claims if claim.model == model]
        lost = sum(claim.reserved_usd for claim in own if not claim.is_unsent)
        more = (calls - sum(claim.is_unsent for claim in own), usd, unsure + lost)
        known = (0, 0.0, 0.0)
        if model in had:
            more, known = extra.get(model, (0, 0.0, 0.0)), had[model][1:4]
            new.execute("DELETE FROM spending WHERE model = ?", (model,))
        sums = [before + added for before, added in zip(known, more, strict=True)]
        _insert(new, "spending", [sign((model, sums[0], *map(real, sums[1:])))])

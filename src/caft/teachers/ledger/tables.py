"""The tables, whose rows have a checksum: what was paid for, what it cost, what is asked. Pure."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from caft.errors import UserError

Row: TypeAlias = tuple[object, ...]
TABLES = {
    "replies": (
        "key", "model", "endpoint", "attempt", "request", "text", "finish_reason", "prompt_tokens",
        "completion_tokens", "usage_estimated", "usd", "seconds", "arrived", "reasoning",
    ),
    "spending": ("model", "calls", "usd", "unsure_usd"),
    "failures": ("key", "model", "reason", "unsure_usd", "at"),
    "claims": ("key", "model", "owner", "machine", "pid", "expires", "reserved_usd"),
}  # fmt: skip
"""Their columns, in order; `checksum` is the last of each."""
_SINCE = {"reasoning": 2, "checksum": 3, "claims.checksum": 4}
"""The version of the tables that a column came with, if not the first."""
_DIGITS = 16


def sign(row: Sequence[object]) -> Row:
    """The row, given without its checksum, with it."""
    # As JSON in ASCII, which is the same on every database and version of Python. Damage may
    # also turn a text into bytes.
    content = json.dumps(row, default=repr).encode()
    return (*row, hashlib.sha256(content).hexdigest()[:_DIGITS])


def is_sound(row: Row) -> bool:
    """Whether a row is as it was signed; one of tables without checksums cannot be told."""
    return row[-1] is None or sign(row[:-1]) == row


def select(table: str, version: int) -> str:
    """SQL for all rows; NULL stands for columns that tables of that version lack."""
    names = (*TABLES[table], "checksum")
    since = (_SINCE.get(f"{table}.{name}", _SINCE.get(name, 0)) for name in names)
    known = (name if at <= version else "NULL" for name, at in zip(names, since, strict=True))
    return f"SELECT {', '.join(known)} FROM {table}"


def insert(table: str) -> str:
    """SQL that adds one row, with its checksum."""
    return f"INSERT INTO {table} VALUES ({', '.join('?' * (len(TABLES[table]) + 1))})"


def real(number: float) -> float:
    """A number as both databases give it back: a float, and no -0.0."""
    return float(number) + 0.0


def refuse_damaged(name: str, table: str, rows: Iterable[Row]) -> None:
    """UserError if rows of the ledger `name` are not as they were signed."""
    if damaged := [row for row in rows if not is_sound(row)]:
        what = f"{describe(table, damaged)} changed on the disk after being written"
        raise UserError(_explain(name, what))


def refuse_fault(name: str, fault: str) -> None:
    """UserError if replies of the ledger `name` may be there, and not be found by their keys."""
    if fault:
        what = f"replies that were paid for may not be found, and be bought again ({fault})"
        raise UserError(_explain(name, what))


def _explain(name: str, what: str) -> str:
    return (
        f"the teacher's ledger {name} is damaged: {what}; put a backup in its place, or drop what "
        "is damaged (replies are then bought again): python -m caft.teachers.ledger check "
        f"{shlex.quote(name)} --drop"
    )


def describe(table: str, damaged: Sequence[Row]) -> str:
    """How many rows, and which."""
    named = ", ".join(ascii(str(row[0])[:12])[1:-1] for row in damaged[:3])
    more = ", ..." if len(damaged) > 3 else ""
    return f"{len(damaged)} of the {table} read ({named}{more})"

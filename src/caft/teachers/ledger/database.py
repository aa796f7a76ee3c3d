"""What a ledger asks of its database, and the forms of its address."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
Place: TypeAlias = Path | str
"""Where a ledger is: a file, or an address such as postgresql://HOST/DATABASE."""


class Rows(Protocol):
    """The result of one statement."""

    @property
    def rowcount(self) -> int:
        """The rows that it changed."""

    def fetchone(self) -> Any:
        """The next row as a tuple, or None."""

    def fetchall(self) -> list[Any]:
        """The rows that are left, as tuples."""


class Database(Protocol):
    """A database with the ledger's tables. Statements have `?` for values."""

    name: str
    """For messages: a path, or an address without its password."""
    clock: str
    """SQL for the database's own time, in seconds since 1970."""
    position: str
    """SQL's function from a text and what is looked for in it to its place, from 1; 0 for none."""
    version: int
    """Of its tables: an older one is only read."""
    writing: str
    """The row that is being written, for messages."""
    not_compared: str
    """Why `find_fault` could not look, and what to ask for; "" where it did."""

    def transact(self, work: Callable[[], T], *, writes: bool = True) -> T:
        """Do `work` in one transaction; one that writes excludes every other that does.

        `work` may be done again where the connection was lost: twice must be as good as once.
        UserError, in one line, for whatever the database refuses.
        """

    def execute(self, statement: str, values: Sequence[object] = ()) -> Rows:
        """Run one statement, inside a transaction."""

    def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run it once for every row of values."""

    def explain(self, error: Exception) -> Exception:
        """A UserError, in one line, for an error of this database; any other as it is."""

    def find_fault(self) -> str:
        """What may keep a reply from being found by its key; "" if nothing is known to."""

    def note_replies(self, *, fewer: bool = False) -> None:
        """Note outside the database that it has replies, where it could be lost unnoticed.

        The number never falls unless `fewer`: some were dropped.
        """

    def close(self) -> None:
        """End the connection."""


def is_address(place: Place) -> bool:
    """Whether it names a PostgreSQL database, and not a file."""
    return isinstance(place, str) and place.startswith(("postgresql://", "postgres://"))


def as_path(place: Place) -> Path:
    """The file of a path, or of sqlite:///FILE, which has four slashes if FILE is absolute."""
    return Path(str(place).removeprefix("sqlite:///")) if isinstance(place, str) else place


def mask_password(text: str) -> str:
    """`text` without the passwords in its addresses."""
    text = re.sub(r"(\w://[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"((?:ssl)?password=)[^\s&]*", r"\1***", text)

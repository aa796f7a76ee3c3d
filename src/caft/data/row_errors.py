"""One error for many wrong rows: the first is named, the others are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from caft.errors import UserError, count_of
from caft.packed import pack

Given = TypeVar("Given")
Read = TypeVar("Read")


def refuse_mistakes(mistakes: Sequence[str], advice: str = "") -> None:
    """Raise a UserError made of the first mistake, the number of others, and the advice."""
    if not mistakes:
        return
    others = len(mistakes) - 1
    more = f" ({count_of(others, 'more row')} like it or otherwise wrong)" if others else ""
    raise UserError(mistakes[0] + more + (f"; {advice}" if advice else ""))


def read_each(items: Iterable[Given], read: Callable[[Given], Read]) -> Sequence[Read]:
    """`read` of every item. Its UserErrors are collected and raised as one at the end."""
    mistakes: list[str] = []

    def read_right() -> Iterator[Read]:
        for item in items:
            try:
                done = read(item)
            except UserError as mistake:
                mistakes.append(str(mistake))
            else:
                yield done

    done = pack(read_right())
    refuse_mistakes(mistakes)
    return done

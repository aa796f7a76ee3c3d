"""The one exception whose message is written for the user, and its grammar."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """The user must act: exit status 2, one line, no traceback.

    The message says what was given, what is allowed and what to do.
    """


def first_line(error: BaseException) -> str:
    """Of its text; its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint where one of `names` is near; empty where none is."""
    by_small = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold(), by_small, n=1)
    return f"; did you mean {by_small[near[0]]}?" if near else ""


def noun_of(number: float, singular: str) -> str:
    """row, or rows: the noun for a number of things, by the regular rules."""
    if number == 1:
        return singular
    if singular.endswith("y") and singular[-2] not in "aeiou":
        return f"{singular[:-1]}ies"
    hisses = singular.endswith(("s", "x", "ch", "sh")) and not singular.endswith("och")  # epochs
    return f"{singular}es" if hisses else f"{singular}s"


def count_of(number: float, singular: str) -> str:
    """1 row, 1,200 rows."""
    return f"{number:,} {noun_of(number, singular)}"

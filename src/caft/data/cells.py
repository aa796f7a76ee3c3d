"""The meaning of a cell, the same in every format: missing values, numbers, truth values. Pure.

Table libraries write one column in many ways: whole numbers with a gap become floats ("4.0"), a
gap becomes null, NaN, an empty cell or the word "nan". A column is therefore read as a whole:

* Null, NaN, blank text and the words that libraries write for a gap ("nan", "<NA>", "NaT") are
  missing. Words that may also be text ("None", "NA", "null") are missing in a column of numbers
  and text in a column of texts. In a list they are text: "None" is an option beside numbers.
* If all numbers of a column are whole, 4.0 and "4.0" are 4. In a column that also has 2.5 they are
  not changed.
* The word for an infinite number ("inf") is a number in a column of numbers, and text in a list.
* Truth values are the words True and False.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

GAPS = frozenset({"nan", "<NA>", "NaT"})
"""Words that libraries write for a gap, and that have no other meaning; case matters."""

PERHAPS_GAPS = frozenset({"nan", "na", "n/a", "#n/a", "null", "none", "-nan", "<na>", "nat"})
"""Words, in any case, that are gaps among numbers and text among texts."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"([-+]?\d+)(?:\.0)?", re.ASCII)
_EXACT = 2**53
"""Above it floats skip whole numbers."""
_INFINITIES = frozenset({"inf", "-inf"})
"""Words that libraries write for infinite numbers; "infinity" may be text."""


def is_missing(value: object) -> bool:
    """Whether a value is null, NaN, blank text or a library's word for a gap."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in GAPS
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def is_number(value: object) -> bool:
    """Whether a value is a number or the text of one; truth values are not."""
    if isinstance(value, str):
        return len(value) < 400 and _NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def as_text(value: object) -> str | None:
    """The stripped text of texts, numbers and truth values; "" for a text that is a gap.

    None for anything else, for infinity and for other gaps.
    """
    if isinstance(value, str) and is_missing(value):
        return ""
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return None
    return str(value).strip() if isinstance(value, str | int | float | Decimal) else None


def as_whole_number(value: object) -> int | None:
    """A whole number given as int, as a float without a fraction or as digits; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return int(value)
    if isinstance(value, str) and len(value) < 40 and (found := _WHOLE.fullmatch(value.strip())):
        return int(found[1])
    return value if isinstance(value, int) else None


def show(value: object) -> str:
    """A value for a message, cut to a readable length."""
    return _SHORT.repr(value)


def show_names(names: Sequence[str]) -> str:
    """The first names of a file, for a message."""
    shown = [name if name.isprintable() and len(name) <= _LONG else show(name) for name in names]
    return ", ".join(shown[:_MANY]) + (f" and {len(names) - _MANY} more" * (len(names) > _MANY))


_LONG, _MANY = 40, 20
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxdict = 4
_SHORT.maxlevel = 3


def find_rule(values: Iterable[object]) -> Callable[[object], object]:
    """What makes each cell of the column with these values tidy."""
    telling, whole = False, True
    leaves = (leaf for value in values for leaf in (value if isinstance(value, list) else (value,)))
    for leaf in leaves:
        if _is_digits(leaf):
            telling = True
            continue
        number = is_number(leaf)
        if not (number and isinstance(leaf, str)) and not _tells(leaf):
            continue
        if not number:  # Most columns are texts, which their first cell tells.
            return lambda value: _drop_lists(value) if isinstance(value, list) else value
        telling, whole = True, whole and not _is_fraction(leaf)

    def tidy(value: object) -> object:
        if isinstance(value, list):
            return [shorten(v) for v in _drop_lists(value)]
        if _is_digits(value):
            return value
        if _is_perhaps_gap(value):
            return None
        if telling and isinstance(value, str) and value in _INFINITIES:
            return float(value)
        return shorten(value)

    def shorten(value: object) -> object:
        return _drop_fraction(value) if telling and whole and not is_missing(value) else value

    return tidy


def _is_digits(value: object) -> bool:
    """Whether it is the text of a whole number as it stays. Columns may have millions."""
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 400


def _tells(value: object) -> bool:
    """Whether a cell is there and its meaning does not depend on the rest of its column."""
    if isinstance(value, str) and value in _INFINITIES:
        return False
    return not is_missing(value) and not _is_perhaps_gap(value)


def _drop_lists(values: Sequence[object]) -> list[object]:
    return [None if isinstance(value, list) else value for value in values]


def _is_perhaps_gap(value: object) -> bool:
    return isinstance(value, str) and value.strip().casefold() in PERHAPS_GAPS


def _is_fraction(value: object) -> bool:
    """Whether a number is not a whole one, or too large to be exact: 2.5, 1e20, "2.50"."""
    if isinstance(value, str):
        return _WHOLE.fullmatch(value.strip()) is None
    if isinstance(value, float | Decimal):
        return not math.isfinite(value) or value != int(value) or abs(int(value)) > _EXACT
    return False


def _drop_fraction(value: object) -> object:
    if isinstance(value, str):
        return found[1] if (found := _WHOLE.fullmatch(value.strip())) else value
    return int(value) if isinstance(value, float | Decimal) else value

"""What a cell means, the same in every format: missing values, numbers, truth values. Pure.

Table libraries write one column in many ways: whole numbers with a gap become floats ("4.0"), a
gap becomes null, NaN, an empty cell or the word "nan". A column is therefore read as a whole:

* Missing is null, NaN and blank text, and the words that libraries write for a gap ("nan",
  "<NA>", "NaT"). Words that may be somebody's text, too ("None", "NA", "null"), are missing where
  every other cell of the column is a number, and text in a column of texts.
* Whole numbers are written without a fraction where all numbers of the column are whole: 4.0 and
  "4.0" are 4. Beside 2.5 they stay as they are.
* What libraries write for an infinite number ("inf") is one where all others are numbers.
* Truth values are the words True and False.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Sequence
from decimal import Decimal

GAPS = frozenset({"nan", "<NA>", "NaT"})
"""What libraries write for a gap and no person writes for anything else; exactly so."""

PERHAPS_GAPS = frozenset({"nan", "na", "n/a", "#n/a", "null", "none", "-nan", "<na>", "nat"})
"""Words, in any case, that are gaps among numbers and texts among texts."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"([-+]?\d+)(?:\.0)?", re.ASCII)
_EXACT = 2**53
"""Above it floats skip whole numbers: what stands there is no count that became one."""


_INFINITIES = frozenset({"inf", "-inf"})
"""What libraries write for infinite numbers; exactly so, as "infinity" may be somebody's text."""


def is_missing(value: object) -> bool:
    """Null, NaN, blank text or a library's own word for a gap."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in GAPS
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def is_number(value: object) -> bool:
    """A number, or a text that is one from end to end; truth values are none."""
    if isinstance(value, str):
        return len(value) < 400 and _NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def as_text(value: object) -> str | None:
    """Text without outer white space; numbers and truth values as they are written.

    None for what is missing, for infinity and for everything that is no text.
    """
    if is_missing(value):
        return "" if isinstance(value, str) else None
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
    """A value for a message: cut, however long or deep it is."""
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


def tidy_column(values: Sequence[object]) -> list[object]:
    """The cells of one column, of which lists are parts, under one rule for all of them."""
    leaves = [leaf for value in values for leaf in (value if isinstance(value, list) else [value])]
    telling = [leaf for leaf in leaves if not is_missing(leaf) and not _tells_nothing(leaf)]
    numeric = all(is_number(leaf) for leaf in telling)
    whole = numeric and bool(telling) and not any(_is_fraction(leaf) for leaf in telling)

    def tidy(value: object) -> object:
        if isinstance(value, list):
            return [None if isinstance(v, list) else tidy(v) for v in value]
        if numeric and _is_perhaps_gap(value):
            return None
        if numeric and telling and isinstance(value, str) and value in _INFINITIES:
            return float(value)
        return _drop_fraction(value) if whole and not is_missing(value) else value

    return [tidy(value) for value in values]


def _tells_nothing(value: object) -> bool:
    """Words that mean a number, or none, only where the rest of their column does."""
    return _is_perhaps_gap(value) or (isinstance(value, str) and value in _INFINITIES)


def _is_perhaps_gap(value: object) -> bool:
    return isinstance(value, str) and value.strip().casefold() in PERHAPS_GAPS


def _is_fraction(value: object) -> bool:
    """Whether a number is more than a count: 2.5, 1e20, "2.50"."""
    if isinstance(value, str):
        return _WHOLE.fullmatch(value.strip()) is None
    if isinstance(value, float | Decimal):
        return not math.isfinite(value) or value != int(value) or abs(int(value)) > _EXACT
    return False


def _drop_fraction(value: object) -> object:
    """A count as it was before its column had gaps."""
    if isinstance(value, str):
        return found[1] if (found := _WHOLE.fullmatch(value.strip())) else value
    return int(value) if isinstance(value, float | Decimal) else value

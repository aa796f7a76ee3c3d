"""Numbers as people write them: thousands commas, currencies, units, fractions.

Strict where a reading could be wrong: "1,5", "5 million", "5-6" and "3 + 2" are no numbers here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_CURRENCY_NAMES = {
    "usd": ("$", "usd", "dollar", "dollars"),
    "eur": ("€", "eur", "euro", "euros"),
    "gbp": ("£", "gbp", "pound", "pounds"),
    "jpy": ("¥", "jpy", "yen"),
    "inr": ("₹", "inr", "rupee", "rupees"),
}
_CURRENCIES = {name: code for code, names in _CURRENCY_NAMES.items() for name in names}
_BEFORE = "|".join(re.escape(name) for name in _CURRENCIES if len(name) in (1, 3))

# Lengths are bounded: a reply of a million digits must cost nothing.
_QUANTITY = re.compile(
    rf"(?P<sign>[-+]?)(?P<before>(?:{_BEFORE})?)\s*(?P<inner>[-+]?)"
    r"(?P<number>\d{1,3}(?:,\d{3}){1,8}(?:\.\d{1,40})?|\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})"
    r"(?P<exponent>(?:e[-+]?\d{1,3})?)(?:\s*/\s*(?P<divisor>[1-9]\d{0,39}))?"
    r"(?P<gap>\s*)(?P<unit>[^\d\s].{0,60})?",
    re.DOTALL,
)
_WORD = r"[^\W\d_]+(?:\^?-?[23²³])?"
_UNIT = re.compile(rf"[%¢$€£¥₹]|°?{_WORD}(?:(?:\s?[/·-]\s?| ){_WORD})*")
_NOT_UNITS = re.compile(
    r"(hundred|thousand|million|billion|trillion|dozen)s?\b|.*\b(or|and|to|plus|minus|times|than|x)\b"
)
_SHORTHAND = re.compile(r"(k|m|b|mn|bn)\b")
_LATEX_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d{1,40})\}\{(\d{1,40})\}")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number and its unit: a currency's code, the unit's own words, or empty."""

    value: Fraction
    unit: str


def read_quantity(text: str) -> Quantity | None:
    """The number that the whole text is, or None."""
    if len(text) > 200:
        return None
    found = _QUANTITY.fullmatch(_tidy(text))
    if found is None or (found["sign"] and found["inner"]):
        return None
    unit = _read_unit(found["before"], found["gap"], found["unit"] or "")
    if unit is None:
        return None
    value = Fraction(found["number"].replace(",", "") + found["exponent"])
    value /= int(found["divisor"] or 1)
    return Quantity(-value if "-" in (found["sign"], found["inner"]) else value, unit)


def same_quantity(left: Quantity, right: Quantity) -> bool:
    """Equal numbers; a unit that only one side names is ignored, different ones disagree."""
    one_unit = left.unit == right.unit or left.unit.rstrip("s") == right.unit.rstrip("s")
    return left.value == right.value and (one_unit or not left.unit or not right.unit)


def _tidy(text: str) -> str:
    text = _LATEX_FRACTION.sub(r"\1\2/\3", text).replace("\u2212", "-")
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1", text)
    for latex, plain in (("\\$", "$"), ("\\%", "%"), ("\\,", " "), ("{,}", ",")):
        text = text.replace(latex, plain)
    return " ".join(text.casefold().split()).removesuffix(".")


def _read_unit(before: str, gap: str, after: str) -> str | None:
    """The unit around a number; None where what follows is no unit, so the text no number."""
    if after and (not _UNIT.fullmatch(after) or _NOT_UNITS.match(after)):
        return None
    if not gap and _SHORTHAND.match(after):
        return None
    units = {_CURRENCIES.get(unit, unit) for unit in (before, after) if unit}
    return None if len(units) > 1 else "".join(units)

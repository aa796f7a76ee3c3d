"""Numbers as people write them: grouped digits, currencies, units, fractions, `x = 6`.

Ambiguous texts are not numbers: "1,5", "0,500", "5 million", "5-6" and "3 + 2". Digits may be
grouped in threes by comma, space, apostrophe or LaTeX's spaces, in the Indian way ("1,00,000"), or
by at least two dots ("1.000.000"); "1.000" is the number one.
"""

from __future__ import annotations

import re
import unicodedata
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

PI = re.compile(r"\s?(?:\\pi(?![a-zA-Z])|\u03c0)\s?|(?<![^\W\d_])(?<!\\)(?i:pi)(?![^\W\d_])")
"""Pi, as a letter, in LaTeX or in words."""

# Lengths are bounded: a reply of a million digits must not take long.
_GROUPED = (
    r"[1-9]\d{0,2}(?:,\d{3}){1,8}(?:\.\d{1,40})?"
    r"|[1-9]\d?(?:,\d{2}){1,8},\d{3}(?:\.\d{1,40})?"
    r"|[1-9]\d{0,2}(?:[ '\u2019]\d{3}){1,8}(?!\s*/)(?:\.\d{1,40})?"
    r"|[1-9]\d{0,2}(?:\.\d{3}){2,8}(?!\.?\d)"
)
_QUANTITY = re.compile(
    rf"(?P<sign>[-+]?)(?P<before>(?:{_BEFORE})?)\s*(?P<inner>[-+]?)"
    r"(?:(?P<whole>\d{1,20})\s(?P<over>\d{1,9})\s*/\s*(?P<under>[1-9]\d{0,8})"
    rf"|(?P<number>{_GROUPED}|\d{{1,40}}(?:\.\d{{1,40}})?|\.\d{{1,40}})"
    r"(?P<exponent>(?:e[-+]?\d{1,3})?)(?:\s*/\s*(?P<divisor>[1-9]\d{0,39}))?)"
    r"(?P<gap>\s*)(?P<unit>[^\d\s].{0,60})?",
    re.DOTALL | re.IGNORECASE,
)
# A variable, such as x, x_1 and f(x), or words such as "total cost", but no operation.
_NAMED = re.compile(
    r"(?P<name>(?:(?:the )?value of )?"
    r"[^\W\d_](?:_\{?\w{1,3}\}?|\d{1,3})?(?:\([^\W_]{1,3}\))?"
    r"|[^\W\d_]{2,20}(?: [^\W\d_]{2,20}){0,3}|)\s*=\s*(?P<value>[^=]+)",
    re.IGNORECASE,
)
_COMPUTES = re.compile(
    r"\b(?:log|ln|lg|a?sin|a?cos|a?tan|cot|sec|csc|sqrt|exp|abs|det|min|max|mod|gcd|lcm|not|no|minus"
    r"|plus|half|third|quarter|twice|double|triple|times|root|squared?|cubed?|without|over|per)\b",
    re.IGNORECASE,
)
_WORD = r"[^\W\d_]+(?:\^?-?[23²³])?"
_WORDS_OF_UNIT = rf"{_WORD}(?:(?:\s?[/·-]\s?| ){_WORD})*"
_UNIT = re.compile(rf"[%¢$€£¥₹°]|° [CF]|°?{_WORDS_OF_UNIT}")
# What may follow a sign: "$18 in total", "$20/hour", "25% of them".
_BEHIND_SIGN = re.compile(rf"(?P<sign>[%¢$€£¥₹]?)\s?(?P<words>(?:/\s?)?{_WORDS_OF_UNIT})")
# No words behind a sign, but an amount, or money of another kind.
_AMOUNT = re.compile(
    r"(?:k|m|b|t|mm|mil|mill|mln|mio|mrd|bil|bill|bln|tril|thou|thsd|tsd|cents?|pence|pesos?|francs?"
    r"|yuan|won|(?-i:[A-Z]{3}))\b",
    re.IGNORECASE,
)
_NOT_UNITS = re.compile(
    r"(hundred|thousand|million|billion|trillion|dozen|lakh|lac|crore|cr|mn|bn|tn|mln|mio|mrd|bln)s?\b|grand$"
    r"|(halve|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth)"
    r"(s\b|$|\sof\b)"  # but "12 seventh graders" are twelve
    r"|half($|\sof\b)|(negative|squared|cubed|factorial|repeating|recurring)\b"
    r"|.*\b(or|and|to|plus|minus|times|than|x|below zero)\b"
    r"|.*\bof [^\W\d_]$",  # "25% of y"
    re.IGNORECASE,
)
# No unit but a factor, as in "4y km": pi, i, e, and any letter of Latin or Greek that is no symbol.
# The a of "2 a day" is an article.
_FACTOR = re.compile(
    r"(?!a\s+[^\W\d_]{2})(?![mshdtglLNJWVAKCFTHMBS\u03a9](?![^\W\d_]))"
    r"(?:\u03c0|(?:[a-zA-Z\u0370-\u03ff]|[xyz]{2,3})(?![^\W\d_]))"
)
_SPACE_BEHIND_PI = re.compile("(?<=\u03c0) (?![^\\W\\d_\u00b2\u00b3])")
_SHORTHAND = re.compile(r"(k|m|b|mn|bn)\b", re.IGNORECASE)
_SAME_UNITS = {
    **dict.fromkeys(("percent", "per cent", "pct"), "%"),
    **dict.fromkeys(("degree", "degrees", "deg"), "°"),
}
_SIGNS = {*_CURRENCY_NAMES, "%", "¢"}
_WORDS = re.compile(r"[^\s/·-]+|[/·-]")
# Where all of a unit is written like this, its case counts: mW and MW, Pa and pA.
_PREFIX = "(?:da|[YZEPTGMkhdcm\u03bcunpfazy])"
_SYMBOL = re.compile(
    rf"(?:{_PREFIX}?(?:m|g|s|A|K|mol|cd|Hz|N|Pa|J|W|C|V|F|\u03a9|Wb|T|lm|lx|Bq|Gy|Sv|L|eV|Wh)"
    rf"|{_PREFIX}H|[m\u03bcun]M)(?:\^?-?[23²³])?|[/·-]"
)
_LATEX_FRACTION = re.compile(
    r"\\[dtc]?frac\s*(?:\{\s*(-?)\s*(\d{1,40})\s*\}|\s*()(\d))\s*(?:\{\s*(\d{1,40})\s*\}|(\d))(?!\d)"
)
_LATEX_TEXT = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|operatorname)\s*\{([^{}]*)\}"
)
_POWER_OF_TEN = re.compile(
    r"(?<=\d)\s*(?:\\times|\\cdot|[\u00d7\u00b7*])\s*10\s*\^\s*(?:\{\s*([-+]?\d{1,3})\s*\}|([-+]?\d{1,3}))"
)
_LETTER_OR_FUNCTION = (
    r"(?:alpha|beta|gamma|delta|epsilon|zeta|theta|iota|kappa|lambda|sigma|omicron|upsilon|omega"
    r"|a?(?:sin|cos|tan)h?|sqrt)(?![^\W\d_])"
)
# Of a unit and not of a factor: "m^{2}", but "5x^{2}" is no number.
_BRACED_POWER = re.compile(
    rf"(?<=[\s/])({_PREFIX}?m|s|ft|in|yd|mi|(?!{_LETTER_OR_FUNCTION})[^\W\d_]{{4,40}})"
    r"\s?\^\s?\{\s?(-?[23])\s?\}"
)
# In this order: what one replacement writes may be part of a later one.
_PLAIN_SIGNS = (
    ("-", ("\u2212", "\ufe63")),
    ("/", ("\u2044", "\u2215")),
    (".", ("\u066b",)),
    (",", ("\u066c",)),
    ("\u03bc", ("\u00b5",)),
    ("\u03a9", ("\u2126",)),
    ("", ("\\displaystyle", "\\left", "\\right")),
    ("$", ("\\$",)),
    ("%", ("\\%",)),
    (",", ("{,}",)),
    ("", ("\\!",)),
    (" ", ("\\,", "\\;", "\\:", "\\ ", "~")),
    ("°", ("^\\circ", "^{\\circ}")),
)
_ENDS = ".,;:\u3002\uff0c\u3001"
"""Punctuation that ends an answer and is no part of it."""
_DASHES = ("-", "\u2013", "\u2014")
"""Signs that people write for a minus."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number; its unit (a currency's code, a word, or empty); the x of "x = 6".

    What stands in the unit's place may be a factor: the y of "4y".
    """

    value: Fraction
    unit: str
    name: str = ""


def read_quantity(text: str) -> Quantity | None:
    """The number, where the whole text is one; else None."""
    if len(text) > 200:
        return None
    tidy = _tidy(text)
    named = _NAMED.fullmatch(tidy)
    if named and _COMPUTES.search(named["name"]):
        return None
    number = named["value"] if named else tidy
    if number.startswith(_DASHES):
        number = f"-{number[1:].lstrip()}"
    found = _QUANTITY.fullmatch(number)
    if found is None or (found["sign"] and found["inner"]):
        return None
    unit = _read_unit(found["before"], found["gap"], found["unit"] or "")
    value = _read_value(found)
    if unit is None or value is None:
        return None
    negative = "-" in (found["sign"], found["inner"])
    name = named["name"].casefold() if named else ""
    return Quantity(-value if negative else value, unit, name)


def same_quantity(left: Quantity, right: Quantity) -> bool:
    """Whether numbers are equal. A unit or name on one side only is ignored, a factor is not."""
    same_name = not left.name or not right.name or left.name == right.name
    return left.value == right.value and same_name and _same_unit(left.unit, right.unit)


def _same_unit(left: str, right: str) -> bool:
    """Whether units are the same, word by word: "5 apples" and "5 Apple", but not mW and MW.

    A sign, or the words behind it, may be on one side only: "$5 each" and "$5".
    """
    factor, other_factor = (unit.partition(" ") for unit in (left, right))
    if factor[0] == other_factor[0] == "\u03c0":
        left, right = factor[2], other_factor[2]
    if not (left and right):
        return not _FACTOR.match(left or right)
    (sign, words), (other, others) = _split_sign(left), _split_sign(right)
    if sign and other and (sign != other or not (words and others)):
        return sign == other
    if all(map(_SYMBOL.fullmatch, (*words, *others))):
        return words == others
    return [*map(_fold_plural, words)] == [*map(_fold_plural, others)]


def _split_sign(unit: str) -> tuple[str, list[str]]:
    first, *more = words = _WORDS.findall(unit)
    return (first, more) if first in _SIGNS else ("", words)


def _fold_plural(word: str) -> str:
    folded = word.casefold()
    # The s of "ms" is a second.
    return folded.removesuffix("s") if len(folded) > 2 else folded


def _read_value(found: re.Match[str]) -> Fraction | None:
    if found["whole"] is not None:
        over, under = int(found["over"]), int(found["under"])
        # "5 11/2" may be two numbers, or a mistake.
        return int(found["whole"]) + Fraction(over, under) if over < under else None
    number = found["number"]
    if number.count(".") > 1:
        number = number.replace(".", "")
    value = Fraction(re.sub("[, '\u2019]", "", number) + found["exponent"])
    return value / int(found["divisor"] or 1)


def plain_signs(text: str) -> str:
    """Digits and signs of every script and width in ASCII; superscripts are kept."""
    return "".join(map(_plain_sign, text))


def _plain_sign(sign: str) -> str:
    if sign.isascii():
        return sign
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    if "\uff01" <= sign <= "\uff5e":
        return chr(ord(sign) - 0xFEE0)
    if unicodedata.name(sign, "").startswith("VULGAR FRACTION"):
        return f" {unicodedata.normalize('NFKC', sign)}"
    return sign


def strip_ends(text: str) -> str:
    """The text without punctuation at its end: "72," and "72." are 72."""
    return text.rstrip(_ENDS + " ")


def _tidy(text: str) -> str:
    text = plain_signs(text)
    for plain, signs in _PLAIN_SIGNS:
        for sign in signs:
            text = text.replace(sign, plain)
    text = _LATEX_TEXT.sub(r" \1", text)
    text = _SPACE_BEHIND_PI.sub("", PI.sub(" \u03c0 ", text))
    # The fraction begins with a space: a number before it must not join its digits.
    text = _LATEX_FRACTION.sub(_write_fraction, text)
    text = _POWER_OF_TEN.sub(lambda power: f"e{power[1] or power[2]}", text)
    text = _BRACED_POWER.sub(r"\1^\2", text)
    return " ".join(strip_ends(text).split())


def _write_fraction(found: re.Match[str]) -> str:
    negative, over, _, digit, under, single = found.groups()
    return f"{'-' if negative else ' '}{over or digit}/{under or single}"


def _read_unit(before: str, gap: str, after: str) -> str | None:
    """The unit around a number; None if the rest is not a unit, and the text no number."""
    if _NOT_UNITS.match(after) or after[:1].isnumeric():  # an exponent, as in 5²
        return None
    if not gap and _SHORTHAND.match(after):
        return None
    sign, unit = _name_unit(before), _name_unit(after)
    if not after or (sign in ("", unit) and _UNIT.fullmatch(after)):
        return unit or sign
    return _read_words_behind(sign, after)


def _read_words_behind(sign: str, after: str) -> str | None:
    """The "usd per hour" of "$5 per hour", "% of them" of "5% of them"; None if they are others.

    So "$5 €", "$5 M" and "$5x".
    """
    found = _BEHIND_SIGN.fullmatch(after)
    if found is None or bool(sign) == bool(found["sign"]):
        return None
    words = found["words"].lstrip("/ ")
    is_money = words.split()[0].casefold() in _CURRENCIES
    if is_money or any(other.match(words) for other in (_AMOUNT, _FACTOR, _NOT_UNITS)):
        return None
    return f"{sign or _name_unit(found['sign'])} {found['words']}"


def _name_unit(unit: str) -> str:
    """One name for a currency, percent, degrees and a power; other units as written."""
    unit = unit.replace("° ", "°").replace("²", "^2").replace("³", "^3")
    folded = unit.casefold()
    return _CURRENCIES.get(folded) or _SAME_UNITS.get(folded, unit)

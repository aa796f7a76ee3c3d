"""The allowed values of settings: ranges of numbers and rules for names, as annotations.

A config class annotates its fields, such as `batch_size: Count`, and calls `check_dials` when it is
made; nothing else compares a single number with its bounds. Rules about several settings together
are checked by the class itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from math import inf
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

from caft.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_LONGEST_SHOWN = 40
_LONGEST_PART = 255


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`; `above` leaves out the low end, `below` the high one.

    NaN and the infinities are in no range.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        # NaN compares false with every bound: a check for values outside the range would let it
        # through.
        fits_low = self.low < value if self.above else self.low <= value
        return fits_low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if self.low == -inf and self.high == inf:
            return "a finite number"
        if not self.above and not self.below:
            return f"{_show_bound(self.low)} to {_show_bound(self.high)}"
        low = _show_bound(self.low)
        low = f"more than {low}" if self.above else f"{low} or more"
        if self.high == inf:
            return f"{low}, and finite"
        return f"{low}, {'below' if self.below else 'up to'} {_show_bound(self.high)}"


@dataclass(frozen=True, slots=True)
class Filled:
    """A name or a path: text that is not blank.

    `longest_part` bounds the characters between two slashes, as file systems do.
    """

    longest_part: int | None = _LONGEST_PART


_WORDS = {int: "one whole number", float: "one number", str: "one name", bool: "true or false"}

MOST = 1_000_000_000
"""The largest count of anything: a larger one is a typing error."""

Count: TypeAlias = Annotated[int, Range(1, MOST)]
CountOrNone: TypeAlias = Annotated[int, Range(0, MOST)]
Seed: TypeAlias = Annotated[int, Range(0, 2**32 - 1)]
"""The seeds that numpy accepts; torch and Python's own generators would accept more."""
Share: TypeAlias = Annotated[float, Range(0, 1)]
POSITIVE = Range(0, inf, above=True, below=True)
Positive: TypeAlias = Annotated[float, POSITIVE]
NotNegative: TypeAlias = Annotated[float, Range(0, inf, below=True)]
ANY_FINITE = Range(-inf, inf, above=True, below=True)
Finite: TypeAlias = Annotated[float, ANY_FINITE]
Seconds: TypeAlias = Annotated[float, Range(0, MOST)]
Usd: TypeAlias = Annotated[float, Range(0, MOST)]
Temperature: TypeAlias = Annotated[float, Range(0, 10)]
TopP: TypeAlias = Annotated[float, Range(0, 1, above=True)]
MinP: TypeAlias = Annotated[float, Range(0, 1, below=True)]
Text: TypeAlias = Annotated[str, Filled()]
LongText: TypeAlias = Annotated[str, Filled(longest_part=None)]
"""A name that an outside service shortens to a limit of its own."""


def check_dials(config: DataclassInstance, place: str) -> None:
    """UserError for the first of `config`'s own settings that is not what its annotation allows.

    `place` is their dotted prefix, such as `tuning.lora`. Nested config classes have a prefix of
    their own and were checked when they were made; those in lists and tables have none, and are
    checked here.
    """
    for name, hint, value in _fields(config):
        if not is_dataclass(value):
            _check(f"{place}.{name}" if place else name, hint, value)


_PASSWORD = re.compile(
    r"://[^/?@]*:[^/?@]*@|://[^/?@]*:(?!\d*[/?,]).*@|[?&](ssl)?password=", re.IGNORECASE
)


def refuse_password(place: str, url: str) -> None:
    """UserError, without repeating it, for a database's address with a password in it.

    Configs are written down in many places, and every user of a machine sees its command lines.
    """
    if _PASSWORD.search(url):
        raise UserError(
            f"{place} holds a password, and would be written down; leave it out of the address, "
            "and put it into the environment as PGPASSWORD, or into ~/.pgpass"
        )


def refuse_idle_filters(place: str, *, top_p: float, top_k: int, min_p: float) -> None:
    """UserError for a filter of tokens beside temperature 0, which takes the likeliest one."""
    for name, value, off in (("top_p", top_p, 1), ("top_k", top_k, 0), ("min_p", min_p, 0)):
        if value != off:
            raise UserError(
                f"{place}.{name}={value:g} does nothing while {place}.temperature=0 takes the "
                f"likeliest token; set {place}.temperature above 0, such as 0.6, or leave out "
                f"{place}.{name}"
            )


def _fields(config: DataclassInstance) -> Iterator[tuple[str, object, object]]:
    hints = _hints(type(config))
    for field in fields(config):
        yield field.name, hints[field.name], getattr(config, field.name)


@cache
def _hints(schema: type) -> dict[str, object]:
    return get_type_hints(schema, include_extras=True)


def _check(path: str, hint: object, value: object) -> None:
    kind, rules, optional = read_hint(hint)
    if kind is Any and isinstance(value, float):
        # A table of the user's own is sent to servers as JSON, which has no NaN.
        rules = (ANY_FINITE,)
    or_null = ", or null" if optional else ""
    _refuse_several(path, kind, value, or_null)
    for rule in rules if value is not None else ():
        _apply(rule, path, value, or_null)
    if get_origin(kind) is list and isinstance(value, list):
        _refuse_repeats(path, value)
    for name, inner_hint, inner in _members(kind, value):
        _check(f"{path}.{name}", inner_hint, inner)


def read_hint(hint: object) -> tuple[object, tuple[object, ...], bool]:
    """A setting's type without `| None`, its annotated rules, and whether null is allowed."""
    optional = NoneType in get_args(hint)
    if optional:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is Annotated:
        kind, *rules = get_args(hint)
        return kind, tuple(rules), optional
    return hint, (), optional


def _refuse_several(path: str, kind: object, value: object, or_null: str) -> None:
    """OmegaConf lets a list or a table through where a table's or a list's member is one value."""
    if not isinstance(kind, type) or not isinstance(value, list | Mapping):
        return
    one = _WORDS.get(kind)
    if issubclass(kind, Enum):
        one = f"one of {', '.join(choice.name for choice in kind)}"
    if one is not None:
        raise UserError(f"{path} is {shown(value)}; give {one}{or_null}")


def _apply(rule: object, path: str, value: Any, or_null: str) -> None:
    if isinstance(rule, Range) and value not in rule:
        raise UserError(f"{path} is {shown(value)}; give {rule}{or_null}")
    if isinstance(rule, Filled):
        _refuse_bad_name(rule, path, value, or_null)


def _refuse_bad_name(rule: Filled, path: str, value: str, or_null: str) -> None:
    if not value.strip():
        raise UserError(f"{path} is {value!r}, which names nothing; give a name{or_null}")
    longest = rule.longest_part
    if longest is not None and any(len(part) > longest for part in value.split("/")):
        raise UserError(
            f"{path} is {shown(value)}; no name of a file or folder is longer than {longest} "
            "characters, so give a shorter one"
        )
    try:
        Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{path} is {shown(value)}, and this system has no such user; give the whole path"
        ) from error


def _members(kind: object, value: object) -> Iterator[tuple[object, object, object]]:
    """What a list, a table, or a config class within one holds: name, hint and value."""
    if is_dataclass(value) and not isinstance(value, type):
        yield from _fields(value)
        return
    of = get_args(kind)[-1] if get_args(kind) else Any
    if isinstance(value, Mapping):
        yield from ((name, of, inner) for name, inner in value.items())
    elif isinstance(value, list):
        yield from ((number, of, inner) for number, inner in enumerate(value))


def _refuse_repeats(path: str, entries: list[object]) -> None:
    """Texts are names, and naming one twice is a mistake; numbers and tables may repeat."""
    words = Counter(
        entry.name if isinstance(entry, Enum) else entry
        for entry in entries
        if isinstance(entry, str | Enum)
    )
    for word, times in words.items():
        if times > 1:
            raise UserError(f"{path} names {shown(word)!r} {times} times; name it once")
        if not word.strip():
            raise UserError(f"{path} has an entry without a name; leave it out")


def shown(value: object) -> str:
    """What was given, as a message quotes it: a number of a thousand digits is cut."""
    text = str(value)
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[: _LONGEST_SHOWN // 2]}... ({len(text):,} characters)"


def _show_bound(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:,g}"

"""Words of a command line, put into Hydra's grammar by the type of the dial that they set.

Where only a list can be meant, commas make a list, quoted or not; where only a text can be meant,
digits stay as they were typed. Everything else is left to Hydra.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import types
import typing
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from caft.errors import UserError
from caft.run_config import KINDS, ONE_KIND, RunConfig

_BARE = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_TEXT = re.compile(r"(?i:true|false|null|nan|[-+]?inf)|[-+]?[\d_.]+(?:[eE][-+]?[\d_]+)?")
_FUNCTION = re.compile(r"(?:choice|extend_list|range|interval|shuffle|sort|tag)\(.*\)", re.DOTALL)
MOST_DIGITS = 4000
_TOO_MANY_DIGITS = re.compile(rf"\d{{{MOST_DIGITS + 1}}}")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_CLOSING = {"[": "]", "(": ")", "{": "}"}


@cache
def dial_types() -> dict[str, frozenset[Any]]:
    """The types of every dial, by its key; several where a group's kinds differ in them."""
    found: dict[str, set[Any]] = {}
    schemas = [("", RunConfig)]
    schemas += [(group, kind) for group, kinds in KINDS.items() for kind in kinds.values()]
    schemas += list(ONE_KIND.items())
    for group, schema in schemas:
        for key, kind in _walk(group, schema):
            found.setdefault(key, set()).add(kind)
    return {key: frozenset(kinds) for key, kinds in found.items()}


def _walk(owner: str, schema: type[Any]) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key = f"{owner}.{field.name}" if owner else field.name
        kind = _without_none(hints[field.name])
        yield key, kind
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _walk(key, kind)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    return members[0] if len(members) == 1 else hint


def member_type(key: str) -> Any:
    """What the dial `key` is a list of; None where it is no list, or not always one."""
    kinds = dial_types().get(key, frozenset())
    members = {typing.get_args(kind)[0] for kind in kinds if typing.get_origin(kind) is list}
    return members.pop() if len(members) == 1 and len(kinds) == 1 else None


def list_example(key: str) -> str:
    """How the list `key` is written, with members of the right type."""
    member = member_type(key)
    members = ["A", "B"]
    if member is float:
        members = ["0.25", "0.75"]
    elif isinstance(member, type) and issubclass(member, Enum):
        members = [choice.name for choice in member][:2]
    return f"{key}=[{','.join(members)}]"


def holds_text(key: str) -> bool:
    """Whether the dial `key` is one text, whatever it looks like."""
    return dial_types().get(key) == frozenset({str})


def type_words(words: Sequence[str]) -> list[str]:
    """The words as Hydra reads them, each by its dial's type."""
    return [_type_word(word) for word in words]


def _type_word(word: str) -> str:
    head, equals, value = word.partition("=")
    key = head.lstrip("+")
    if _HALF_A_PAIR.search(word):
        raise UserError(f"{head!a} holds bytes that are no UTF-8; rename what it names")
    if not equals or value.strip() in ("", "null"):
        return word
    if (member := member_type(key)) is not None:
        return f"{head}={write_list(value.strip(), member)}"
    if holds_text(key) and _NO_TEXT.fullmatch(value.strip()):
        return f"{head}={quote_text(value.strip())}"
    if _TOO_MANY_DIGITS.search(value):
        raise UserError(
            f"{key} has a number of more than {MOST_DIGITS:,} digits; give a shorter one"
        )
    return word


def write_list(value: str, member: Any) -> str:
    """`A,B`, `[A,B]`, `'A,B'` or `["A","B"]` as one Hydra list.

    Lists in brackets with commas between, as in `[A,B],[C,D]`, stay several: a sweep's values.
    """
    value = _unquoted(value) or "[]"
    unclosed = value[0] == "[" and value[-1] != "]"
    parts = split_at_commas(value)
    reference = len(parts) == 1 and value.startswith("${")
    if unclosed or reference or _FUNCTION.fullmatch(value):
        return value
    if all(_is_bracketed(part) or part == "null" for part in parts):
        return ",".join(_write_bracketed(part, member) for part in parts)
    return _write_members(parts, member)


def _write_bracketed(value: str, member: Any) -> str:
    return value if value == "null" else _write_members(split_at_commas(value[1:-1]), member)


def _write_members(parts: Sequence[str], member: Any) -> str:
    return f"[{','.join(_write_text(part) if member is str else part for part in parts)}]"


def _write_text(part: str) -> str:
    plain = _BARE.fullmatch(part) and not _NO_TEXT.fullmatch(part)
    quoted = len(part) > 1 and part[0] in "\"'" and part[-1] == part[0]
    return part if plain or quoted or "${" in part else quote_text(part)


def quote_text(text: str) -> str:
    """`text` in double quotes, which Hydra and OmegaConf read as exactly that text."""
    return str(QuotedString(escape_interpolation(text), Quote.double).with_quotes())


def escape_interpolation(text: str) -> str:
    """`text` in which OmegaConf finds nothing to fill in; it reads it as `text` again."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def show_form(key: str, text: str) -> str:
    """How a shell's command line sets the dial `key` to `text`, whatever signs are in it."""
    return shlex.quote(f"{key}={quote_text(text)}")


def split_at_commas(text: str) -> list[str]:
    """The parts between commas that stand in no quotes and no brackets, without outer space."""
    parts: list[str] = []
    start, closers, quote = 0, "", ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote and text[place - 1] != "\\" else quote
        elif sign in "\"'" and not text[start:place].strip(" [{("):
            quote = sign
        elif sign in _CLOSING:
            closers += _CLOSING[sign]
        elif closers.endswith(sign) and closers:
            closers = closers[:-1]
        elif sign == "," and not closers:
            parts.append(text[start:place])
            start = place + 1
    # Brackets and quotes that nothing closes are signs like others.
    parts = text.split(",") if closers or quote else [*parts, text[start:]]
    stripped = [part.strip() for part in parts]
    return stripped if stripped[-1] else stripped[:-1]


def _is_bracketed(part: str) -> bool:
    return len(part) > 1 and part[0] == "[" and part[-1] == "]"


def _unquoted(value: str) -> str:
    """What stands in the quotes, where one pair encloses all of it."""
    whole = re.fullmatch(r"""(["'])((?:(?!\1)[^\\]|\\.)*)\1""", value, re.DOTALL)
    return value if whole is None else whole[2].replace(f"\\{whole[1]}", whole[1]).strip()

"""Overrides of a command line in Hydra's grammar, by the type of the setting.

If the setting is a list, commas make a list, quoted or not; if it is a text, digits stay as they
were typed. Everything else is left to Hydra.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import cache, partial
from itertools import takewhile
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from caft.dials import read_hint
from caft.errors import UserError
from caft.hydra_bridge.deprecated import rename_overrides
from caft.hydra_bridge.groups import explain_no_option, list_groups, list_options_of
from caft.run_config import KINDS, ONE_KIND, RunConfig
from caft.tune.config import StageConfig

_BARE = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_TEXT = re.compile(r"(?i:true|false|null|nan|[-+]?inf)|[-+]?[\d_.]+(?:[eE][-+]?[\d_]+)?")
_FUNCTION = re.compile(r"(?:choice|extend_list|range|interval|shuffle|sort|tag)\(.*\)", re.DOTALL)
_MOST_DIGITS = 4000
_TOO_MANY_DIGITS = re.compile(rf"\d{{{_MOST_DIGITS + 1}}}")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_CLOSING = {"[": "]", "(": ")", "{": "}"}


@cache
def dial_types() -> dict[str, set[object]]:
    """The types of every setting, by its key; several if a group's kinds differ in them."""
    found: dict[str, set[object]] = defaultdict(set)
    schemas = [(group, kind) for group, kinds in KINDS.items() for kind in kinds.values()]
    for group, schema in [("", RunConfig), *schemas, *ONE_KIND.items()]:
        for key, kind in _walk(group, schema):
            found[key].add(kind)
    return dict(found)


def _walk(owner: str, schema: type) -> Iterator[tuple[str, object]]:
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key = f"{owner}.{field.name}" if owner else field.name
        kind, _, _ = read_hint(hints[field.name])
        yield key, kind
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _walk(key, kind)


def member_type(key: str) -> object:
    """The type of the members of the list `key`; None if it is no list, or not always one."""
    kinds = dial_types().get(key, set())
    kind = next(iter(kinds)) if len(kinds) == 1 else None
    return get_args(kind)[0] if get_origin(kind) is list else None


def list_example(key: str) -> str:
    """How the list `key` is written, with members of the right type."""
    member = member_type(key)
    members = ["A", "B"]
    if member is float:
        members = ["0.25", "0.75"]
    elif isinstance(member, type) and issubclass(member, Enum):
        members = [choice.name for choice in member][:2]
    elif member is StageConfig:
        members = ["{targets:{easy:answer},epochs:1}"]
    return f"{key}=[{','.join(members)}]"


def holds_text(key: str) -> bool:
    """Whether the setting `key` is always one text."""
    return dial_types().get(key) == {str}


def type_overrides(overrides: Iterable[str]) -> list[str]:
    """The overrides as Hydra reads them, in today's names, each by the type of its setting."""
    words = [*overrides]
    for place, word in enumerate(words):
        if "=" not in word and not word.startswith("~") and word.isprintable():
            raise UserError(f"cannot read {word!r}; {_mend_word(words, place)}")
    return [_type_override(override) for override in rename_overrides(words)]


def _mend_word(words: Sequence[str], place: int) -> str:
    """What a word without = was probably meant to be, by its neighbours."""
    word, before = words[place], words[place - 1] if place else ""
    key, equals, begun = before.lstrip("+").partition("=")
    bare = [*takewhile(lambda each: "=" not in each, words[place:])]
    whole = " ".join([begun, *bare])
    if begun and holds_text(key):
        return f"if it belongs to {before}, quote both: {show_form(key, whole)}"
    if equals and not begun:
        return f"write {key}={' '.join(bare)}, without spaces"
    if any(begun.count(opens) > begun.count(closes) for opens, closes in ("[]", "{}")):
        closed = whole[: max(whole.rfind("]"), whole.rfind("}")) + 1]
        return f"write {_write_closely(key, closed or whole)}"
    if is_setting(name := word.replace("-", "_")):
        return f"write {name}={pick_value(name, words[place + 1 :])}, without spaces"
    groups = [group for group, options in list_groups().items() if word in options]
    listed = begun.endswith(",") and member_type(key)
    if groups and key not in groups and not listed:
        return f"write {' or '.join(f'{group}={word}' for group in groups)}"
    return _add_values(key, begun, [*takewhile(partial(_may_be, key), bare)])


def _add_values(key: str, begun: str, values: Sequence[str]) -> str:
    if not begun or begun.endswith("]") or not values:
        return "write key=value"
    several = _write_closely(key, " ".join([begun, *values]))
    return f"write {several}" + ("" if member_type(key) else ", and -m to sweep over them")


def _write_closely(key: str, value: str) -> str:
    """`key` with the same value without blanks, or in a shell's quotes if it has a table."""
    if "{" in value:
        return shlex.quote(f"{key}={value}")
    members = re.sub(r"(?<=\[)[\s,]+|[\s,]+(?=\])", "", value)
    return f"{key}={','.join(filter(None, re.split(r'[ ,]+', members)))}"


def pick_value(name: str, after: Sequence[str]) -> str:
    """What the setting `name`, typed without =, is given: the next word if it may be a value."""
    value = next(filter(None, (word.removeprefix("=") for word in after[:2])), "=")
    if dial_types().get(name) == {bool}:
        return value if _may_be(name, value) else "true"
    return value if value[0] not in "-=" and "=" not in value else "VALUE"


def _may_be(key: str, word: str) -> bool:
    """Whether `word` can be a value of the setting or group, or a member of the list."""
    value = word.strip(",[]")
    if _is_group(key):
        return not value or value in list_options_of(key)
    kinds = [member_type(key)] if member_type(key) else dial_types().get(key, ())
    return any(not value or _fits(kind, value) for kind in kinds)


def _fits(kind: object, value: str) -> bool:
    if kind is bool:
        return value.casefold() in ("true", "false")
    if kind in (int, float):
        return _NO_TEXT.fullmatch(value) is not None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value in kind.__members__
    return kind in (str, Any)


def is_setting(name: str) -> bool:
    """Whether `name=` can be given a value: a setting, or a group of options."""
    return name in dial_types() or _is_group(name)


def is_setting_or_option(name: str) -> bool:
    """Whether `name` alone, without =, is what people choose in a run."""
    return is_setting(name) or any(name in options for options in list_groups().values())


def _type_override(override: str) -> str:
    head, equals, value = override.partition("=")
    key, value = head.lstrip("+"), value.strip()
    if _HALF_A_PAIR.search(override):
        raise UserError(f"{head!a} holds bytes that are not UTF-8; rename what it names")
    if equals and (value in ("", "null") or _NO_TEXT.fullmatch(value)) and _is_group(key):
        raise UserError(explain_no_option(key, value))
    if not equals or value in ("", "null"):
        return override
    if holds_text(key) and _NO_TEXT.fullmatch(value):
        return f"{head}={quote_text(value)}"
    if _TOO_MANY_DIGITS.search(value):
        raise UserError(
            f"{key} has a number of more than {_MOST_DIGITS:,} digits; give a shorter one"
        )
    if (member := member_type(key)) is not None:
        return f"{head}={_write_lists(value, member)}"
    return override


def _is_group(key: str) -> bool:
    return "." not in key and "/" not in key and bool(list_options_of(key))


def _write_lists(value: str, member: object) -> str:
    """`A,B`, `[A,B]`, `'A,B'` or `["A","B"]` as one Hydra list.

    Lists in brackets with commas between, as in `[A,B],[C,D]`, stay several: a sweep's values.
    """
    value = _unquoted(value) or "[]"
    unclosed = value[0] == "[" and value[-1] != "]"
    parts = _split_at_commas(value)
    reference = len(parts) == 1 and value.startswith("${")
    if unclosed or reference or _FUNCTION.fullmatch(value):
        return value
    if not all(_is_list(part) or part == "null" for part in parts):
        return _write_list(parts, member)
    lists = (
        _write_list(_split_at_commas(part[1:-1]), member) if _is_list(part) else part
        for part in parts
    )
    return ",".join(lists)


def _is_list(part: str) -> bool:
    return part.startswith("[") and part.endswith("]")


def _write_list(parts: Sequence[str], member: object) -> str:
    return f"[{','.join(map(_write_text, parts) if member is str else parts)}]"


def _write_text(part: str) -> str:
    bare = _BARE.fullmatch(part) and not _NO_TEXT.fullmatch(part)
    return part if bare or is_quoted(part) or "${" in part else quote_text(part)


def is_quoted(text: str) -> bool:
    """Whether `text` begins and ends with the same kind of quote."""
    return len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]


def quote_text(text: str) -> str:
    """`text` in double quotes, which Hydra and OmegaConf read as exactly that text."""
    return str(QuotedString(escape_interpolation(text), Quote.double).with_quotes())


def escape_interpolation(text: str) -> str:
    """`text` with escaped references: OmegaConf reads it as `text` again."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def create_resolved(values: object) -> DictConfig:
    """Resolved values as a config, in which `${` has no special meaning."""
    return OmegaConf.create(_escape_dollars(values))  # type: ignore[call-overload, no-any-return]


def _escape_dollars(values: object) -> object:
    if isinstance(values, dict):
        return {key: _escape_dollars(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_escape_dollars(value) for value in values]
    return escape_interpolation(values) if isinstance(values, str) else values


def show_form(key: str, text: str) -> str:
    """How a shell's command line sets `key` to `text`, whatever characters are in it."""
    return shlex.quote(f"{key}={quote_text(text)}")


def _split_at_commas(text: str) -> list[str]:
    """The parts between commas outside of quotes and brackets, without outer space."""
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
    # Brackets and quotes that are not closed are ordinary characters.
    parts = text.split(",") if closers or quote else [*parts, text[start:]]
    stripped = [part.strip() for part in parts]
    return stripped if stripped[-1] else stripped[:-1]


def _unquoted(value: str) -> str:
    """The text in the quotes, if one pair encloses all of it."""
    whole = re.fullmatch(r"""(["'])((?:(?!\1)[^\\]|\\.)*)\1""", value, re.DOTALL)
    return value if whole is None else whole[2].replace(f"\\{whole[1]}", whole[1]).strip()

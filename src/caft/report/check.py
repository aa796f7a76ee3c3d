"""Whether a summary, or a part of one, has the types of its schema and is JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

from caft.report.schema import Summary

_Part = TypeVar("_Part")


def check_summary(summary: object) -> Summary:
    """`summary` as it is; ValueError, naming every place, unless it has schema 1 and is JSON."""
    return check_part(summary, Summary, "summary")


def check_part(part: object, wanted: type[_Part], place: str) -> _Part:
    """`part` as it is; ValueError, naming every place, unless it is a `wanted` and valid JSON.

    True is not a number, a whole number is a valid float, and keys beyond those of `wanted` are
    allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    problems: list[str] = []
    try:
        TypeAdapter(wanted).validate_python(part, strict=True)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            given = "" if fault["type"] == "missing" else f" is {fault['input']!r}"
            path = ".".join(map(str, (place, *fault["loc"])))
            problems.append(f"{path}{given}: {fault['msg']}")
    problems += _disorder(part, place)
    if problems:
        raise ValueError("; ".join(problems))
    json.dumps(part, allow_nan=False)
    return cast(_Part, part)


def _disorder(value: object, place: str) -> Iterator[str]:
    """Places whose interval does not include its value."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return
    given = [value.get(key) for key in ("low", "value", "high")]
    bounds = [bound for bound in given if isinstance(bound, int | float)]
    if len(bounds) == 3 and bounds != sorted(bounds):
        yield f"{place} has low, value, high = {bounds}"
    for key, item in value.items():
        yield from _disorder(item, f"{place}.{key}")

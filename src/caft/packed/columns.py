"""Columns of a block of rows: what holds values of one type, and what gives them back."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import (
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import accumulate, chain, compress, pairwise
from operator import attrgetter, is_
from typing import Any, Protocol

_IDS = frozenset({"id", "question_id"})
"""Fields whose texts stay objects: all that is kept by id shares them."""
_END = "\0"
"""What texts are joined with; a block with a text that has one stays as it is."""
_SHARED = 8
"""Objects that so many rows share on average stay as they are: a reference takes 8 bytes."""


class Column(Protocol):
    """The values of some rows."""

    def __len__(self) -> int: ...

    def values(self) -> list[Any]:
        """All of them."""

    def value(self, place: int) -> Any:
        """One of them."""


@dataclass(frozen=True, slots=True)
class Objects:
    """Values as they are."""

    held: Sequence[Any]

    def __len__(self) -> int:
        return len(self.held)

    def values(self) -> list[Any]:
        """All of them."""
        return list(self.held)

    def value(self, place: int) -> Any:
        """One of them."""
        return self.held[place]


@dataclass(frozen=True, slots=True)
class _Texts:
    """Texts as UTF-8, each with `_END` behind it; `ends` begin with 0."""

    held: bytes
    ends: array[int]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def values(self) -> list[Any]:
        # One call for all texts, which takes a third of the time of one for each.
        return _decode(self.held).split(_END)[:-1]

    def value(self, place: int) -> Any:
        start, end = self.ends[place : place + 2]
        return _decode(self.held[start : end - 1])


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Values of which some are None: `there` has a 1 for each of the others."""

    column: Column
    there: bytes

    def __len__(self) -> int:
        return len(self.there)

    def values(self) -> list[Any]:
        return [
            v if flag else None for v, flag in zip(self.column.values(), self.there, strict=True)
        ]

    def value(self, place: int) -> Any:
        return self.column.value(place) if self.there[place] else None


@dataclass(frozen=True, slots=True)
class _Lists:
    """Lists or tuples, as the items of all in one column; `ends` begin with 0."""

    kind: type
    ends: array[int]
    items: Column

    def __len__(self) -> int:
        return len(self.ends) - 1

    def values(self) -> list[Any]:
        items, make = self.items.values(), self.kind
        return [make(items[start:end]) for start, end in pairwise(self.ends)]

    def value(self, place: int) -> Any:
        start, end = self.ends[place : place + 2]
        return self.kind(map(self.items.value, range(start, end)))


@dataclass(frozen=True, slots=True)
class _Records:
    """Records of one class, by field."""

    kind: type
    fields: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def values(self) -> list[Any]:
        return self._make(len(self), (column.values() for column in self.fields.values()))

    def value(self, place: int) -> Any:
        return self._make(1, ([column.value(place)] for column in self.fields.values()))[0]

    def _make(self, count: int, columns: Iterable[Sequence[Any]]) -> list[Any]:
        # Slot by slot takes a third of the time that a frozen class takes to make an object.
        made: list[Any] = [object.__new__(self.kind) for _ in range(count)]
        for name, values in zip(self.fields, columns, strict=True):
            deque(map(getattr(self.kind, name).__set__, made, values), maxlen=0)
        return made


@dataclass(frozen=True, slots=True)
class _Mappings:
    """Dicts, by key. Where only some rows have a key, `there` has a 1 for each of them."""

    fields: Mapping[Any, Column]
    there: Mapping[Any, bytes]

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def values(self) -> list[Any]:
        made: list[dict[Any, Any]] = [{} for _ in range(len(self))]
        for key, column in self.fields.items():
            flags = self.there.get(key)
            pairs = zip(made, column.values(), strict=True)
            for row, value in pairs if flags is None else compress(pairs, flags):
                row[key] = value
        return made

    def value(self, place: int) -> Any:
        return {
            key: column.value(place)
            for key, column in self.fields.items()
            if key not in self.there or self.there[key][place]
        }


@dataclass(frozen=True, slots=True)
class _Picked:
    """Some values of another column, by place."""

    column: Column
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def values(self) -> list[Any]:
        return [*map(self.column.values().__getitem__, self.places)]

    def value(self, place: int) -> Any:
        return self.column.value(self.places[place])


def pick_places(column: Column, places: Sequence[int]) -> Column:
    """The values at these places; the others stay in memory with them."""
    if not isinstance(column, _Picked):
        return _Picked(column, places)
    return _Picked(column.column, array("I", map(column.places.__getitem__, places)))


def encode(values: Sequence[Any]) -> Column:
    """A column of values, of which none may change any more."""
    kinds = {*map(type, values)}
    kind, *others = kinds - {type(None)} or {type(None)}
    column = None
    if not others and len({*map(id, values)}) * _SHARED > len(values):
        # A number beyond 64 bits, or gigabytes of text in a block.
        with suppress(OverflowError):
            if kind in (str, int, float):
                column = _encode_plain(values, kind)
            elif len(kinds) == 1:
                column = _encode_inner(values, kind)
    return column or Objects(tuple(values))


def _encode_plain(values: Sequence[Any], kind: type) -> Column | None:
    if None in values:
        there = bytes(value is not None for value in values)
        filled = _encode_plain([kind() if value is None else value for value in values], kind)
        return filled and _Gaps(filled, there)
    if kind is str:
        return _encode_texts(values)
    return Objects(array("q" if kind is int else "d", values))


def _encode_texts(values: Sequence[str]) -> Column | None:
    text = "".join(value + _END for value in values)
    if text.count(_END) > len(values):
        return None
    held = _encode(text)
    lengths = map(len, values if len(held) == len(text) else map(_encode, values))
    return _Texts(held, array("I", accumulate((length + 1 for length in lengths), initial=0)))


# Half a surrogate pair is a text, too.
def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(held: bytes) -> str:
    return held.decode("utf-8", "surrogatepass")


def _encode_inner(values: Sequence[Any], kind: type) -> Column | None:
    if kind in (list, tuple):
        ends = array("I", accumulate(map(len, values), initial=0))
        return _Lists(kind, ends, encode(tuple(chain.from_iterable(values))))
    if kind is dict:
        return _encode_mappings(values)
    # A class without slots may keep more than its fields.
    if is_dataclass(kind) and "__slots__" in vars(kind):
        names = [field.name for field in fields(kind)]
        columns = {name: [*map(attrgetter(name), values)] for name in names}
        return _Records(
            kind,
            {name: Objects(own) if name in _IDS else encode(own) for name, own in columns.items()},
        )
    return None


def _encode_mappings(values: Sequence[dict[Any, Any]]) -> Column | None:
    keys = tuple(dict.fromkeys(chain.from_iterable(values)))
    partial = {key: bytes(key in row for row in values) for key in keys}
    there = {key: flags for key, flags in partial.items() if not all(flags)}
    # Each row must get its keys back in its own order.
    if not keys or any(tuple(row) != tuple(key for key in keys if key in row) for row in values):
        return None
    return _Mappings({key: encode([row.get(key) for row in values]) for key in keys}, there)


def inner(column: Column, name: str, *path: str) -> Column:
    """The column of a field, and so on; None in the place of a key that is not there."""
    if isinstance(column, _Picked):
        column = _Picked(inner(column.column, name), column.places)
    elif isinstance(column, _Records | _Mappings):
        column = column.fields.get(name) or Objects([None] * len(column))
    else:
        rows = column.values()
        column = Objects([
            row.get(name) if isinstance(row, Mapping) else getattr(row, name) for row in rows
        ])  # fmt: skip
    return inner(column, *path) if path else column


def change_column(column: Column, change: Callable[[Any], Any], *path: str) -> Column:
    """The column with what `change` makes of the values at the end of `path`."""
    if not path:
        values = column.values()
        changed = [*map(change, values)]
        return column if all(map(is_, values, changed)) else encode(changed)
    if isinstance(column, _Picked):  # what is not picked would change, too
        return change_column(encode(column.values()), change, *path)
    name, *rest = path
    if isinstance(column, _Records | _Mappings):
        if name not in column.fields:
            return column
        return replace(
            column,
            fields={**column.fields, name: change_column(column.fields[name], change, *rest)},
        )
    if rest:
        change_column(inner(column, name), change, *rest)
        return column
    for row in column.values():
        if name in row:
            row[name] = change(row[name])
    return column

"""Rows of a large table as columns; a row is a Python object where somebody looks at it.

A million questions as objects take twice the memory of their texts. `pack` makes blocks of
`ROWS_IN_BLOCK` rows into columns, pyarrow's where all values have one plain type, and gives every
row back equal, with values of the same types. A smaller table stays a tuple: it has nothing to
save, and needs no pyarrow.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import accumulate, chain, compress, islice, pairwise
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

if TYPE_CHECKING:
    import pyarrow as pa

Row = TypeVar("Row")

FEWEST_ROWS = 2**12
ROWS_IN_BLOCK = 2**9
"""Few, since the garbage collector looks through the objects of a block that is read."""
_IDS = frozenset({"id", "question_id"})
"""Fields whose texts stay objects: all that is kept by id shares them."""
_SHARED = 8
"""Objects that so many rows share on average stay as they are: a reference takes 8 bytes."""


def pack(rows: Iterable[Row]) -> Sequence[Row]:
    """The rows, from `FEWEST_ROWS` on as columns; not more of them are objects at a time."""
    if isinstance(rows, Packed):
        return rows
    rows = iter(rows)
    first = tuple(islice(rows, FEWEST_ROWS))
    if len(first) < FEWEST_ROWS:
        return first
    rest, blocks = chain(first, rows), []
    del first
    while part := tuple(islice(rest, ROWS_IN_BLOCK)):
        blocks.append(_encode(part))
    return Packed(blocks)


def join(*parts: Sequence[Row]) -> Sequence[Row]:
    """The rows of all parts, in order; what is packed is not copied."""
    if not any(isinstance(part, Packed) for part in parts):
        return pack(chain.from_iterable(parts))
    blocks = (part.blocks if isinstance(part, Packed) else [_encode(part)] for part in parts)
    return Packed([block for own in blocks for block in own if len(block)])


def keep(rows: Sequence[Row], flags: Sequence[bool]) -> Sequence[Row]:
    """Those rows that have a true flag; no copy if they follow one another or are most."""
    count = sum(flags)
    first = flags.index(True) if count else 0
    if all(flags[first : first + count]):
        return rows if count == len(rows) else rows[first : first + count]
    if isinstance(rows, Packed) and 2 * count > len(rows):
        return rows.pick(flags)
    return pack(compress(rows, flags))


def values_of(rows: Sequence[object], name: str, key: str | None = None) -> Iterator[Any]:
    """One field of every row, or what a field that is a mapping has for `key`, None if nothing.

    Where rows are packed, none is made.
    """
    blocks = rows.blocks if isinstance(rows, Packed) else [_Objects(rows)]
    path = (name,) if key is None else (name, key)
    return chain.from_iterable(_inner(block, *path).values() for block in blocks)


def change_values(
    rows: Sequence[Row], name: str, key: str, change: Callable[[Any], Any]
) -> Sequence[Row]:
    """The rows with what `change` makes of each value for `key` in a field that is a mapping.

    Rows that are not packed are changed in place.
    """
    if isinstance(rows, Packed):
        return Packed([_change(block, change, name, key) for block in rows.blocks])
    _change(_Objects(rows), change, name, key)
    return rows


class Column(Protocol):
    """The values of some rows."""

    def __len__(self) -> int: ...

    def values(self) -> list[Any]:
        """All of them."""

    def value(self, place: int) -> Any:
        """One of them."""

    def part(self, start: int, stop: int) -> Column:
        """Some of them, without a copy of texts."""


class Packed(Sequence[Row]):
    """Rows in blocks of columns. Equal to a sequence of equal rows; a slice copies nothing."""

    def __init__(self, blocks: Sequence[Column]) -> None:
        self.blocks = blocks
        self._starts = list(accumulate(map(len, blocks), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(block.values() for block in self.blocks)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            places = range(len(self))[place]
            if places.step == 1:
                return Packed([*self._between(places.start, places.stop)])
            return pack(map(self.__getitem__, places))
        found = range(len(self))[place]
        block = bisect_right(self._starts, found) - 1
        row: Row = self.blocks[block].value(found - self._starts[block])
        return row

    def _between(self, start: int, stop: int) -> Iterator[Column]:
        for begin, block in zip(self._starts, self.blocks, strict=False):
            first, last = max(start - begin, 0), min(stop - begin, len(block))
            if first < last:
                yield block if last - first == len(block) else block.part(first, last)

    def pick(self, flags: Sequence[bool]) -> Packed[Row]:
        """The rows with a true flag. The others stay in memory with them."""
        picked = []
        for (start, stop), block in zip(pairwise(self._starts), self.blocks, strict=True):
            if any(own := flags[start:stop]):
                places = array("H", compress(range(len(block)), own))
                picked.append(block if all(own) else _pick(block, places))
        return Packed(picked)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} packed rows>"


def by_id(rows: Sequence[Row], name: str = "id") -> Mapping[str, Row]:
    """The rows by a field that differs in each."""
    if isinstance(rows, Packed):
        return _ById(rows, name)
    return {getattr(row, name): row for row in rows}


class _ById(Mapping[str, Row]):
    """Packed rows by id. Values in turn take a tenth of the time of one after the other."""

    def __init__(self, rows: Packed[Row], name: str) -> None:
        self.rows = rows
        self._places = {key: place for place, key in enumerate(values_of(rows, name))}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Row:
        return self.rows[self._places[key]]

    def values(self) -> ValuesView[Row]:
        return _Values(self)

    def items(self) -> ItemsView[str, Row]:
        return _Items(self)


class _Values(ValuesView[Row]):
    def __iter__(self) -> Iterator[Row]:
        return iter(self._mapping.rows)  # type: ignore[attr-defined]


class _Items(ItemsView[str, Row]):
    def __iter__(self) -> Iterator[tuple[str, Row]]:
        return zip(self._mapping, self._mapping.rows, strict=True)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class _Objects:
    """Values as they are."""

    held: Sequence[Any]

    def __len__(self) -> int:
        return len(self.held)

    def values(self) -> list[Any]:
        return list(self.held)

    def value(self, place: int) -> Any:
        return self.held[place]

    def part(self, start: int, stop: int) -> Column:
        return _Objects(self.held[start:stop])


@dataclass(frozen=True, slots=True)
class _Plain:
    """Texts or numbers of one type, some of them None."""

    held: pa.Array

    def __len__(self) -> int:
        return len(self.held)

    def values(self) -> list[Any]:
        values: list[Any] = self.held.to_pylist()
        return values

    def value(self, place: int) -> Any:
        return self.held[place].as_py()

    def part(self, start: int, stop: int) -> Column:
        return _Plain(self.held[start:stop])


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

    def part(self, start: int, stop: int) -> Column:
        first, last = self.ends[start], self.ends[stop]
        ends = array("Q", (end - first for end in self.ends[start : stop + 1]))
        return _Lists(self.kind, ends, self.items.part(first, last))


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

    def part(self, start: int, stop: int) -> Column:
        return _Records(self.kind, {k: each.part(start, stop) for k, each in self.fields.items()})

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

    def part(self, start: int, stop: int) -> Column:
        return _Mappings(
            {key: column.part(start, stop) for key, column in self.fields.items()},
            {key: flags[start:stop] for key, flags in self.there.items()},
        )


@dataclass(frozen=True, slots=True)
class _Picked:
    """Some values of another column, by place."""

    column: Column
    places: array[int]

    def __len__(self) -> int:
        return len(self.places)

    def values(self) -> list[Any]:
        return [*map(self.column.values().__getitem__, self.places)]

    def value(self, place: int) -> Any:
        return self.column.value(self.places[place])

    def part(self, start: int, stop: int) -> Column:
        return _Picked(self.column, self.places[start:stop])


def _pick(column: Column, places: array[int]) -> Column:
    if not isinstance(column, _Picked):
        return _Picked(column, places)
    return _Picked(column.column, array("H", map(column.places.__getitem__, places)))


def _encode(values: Sequence[Any]) -> Column:
    """A column of values, of which none may change any more."""
    kinds = {*map(type, values)}
    kind, *others = kinds - {type(None)} or {type(None)}
    column = None
    if not others and len({*map(id, values)}) * _SHARED > len(values):
        if kind in (str, int, float):
            column = _encode_plain(values, kind)
        elif len(kinds) == 1:
            column = _encode_inner(values, kind)
    return column or _Objects(tuple(values))


def _encode_plain(values: Sequence[Any], kind: type) -> Column | None:
    import pyarrow as pa

    types = {str: pa.large_string(), int: pa.int64(), float: pa.float64()}
    try:
        return _Plain(pa.array(values, types[kind], memory_pool=pa.system_memory_pool()))
    # A number beyond 64 bits, or half a surrogate pair.
    except (OverflowError, UnicodeError, pa.ArrowInvalid):
        return None


def _encode_inner(values: Sequence[Any], kind: type) -> Column | None:
    if kind in (list, tuple):
        ends = array("Q", accumulate(map(len, values), initial=0))
        return _Lists(kind, ends, _encode(tuple(chain.from_iterable(values))))
    if kind is dict:
        return _encode_mappings(values)
    # A class without slots may keep more than its fields.
    if is_dataclass(kind) and "__slots__" in vars(kind):
        names = [field.name for field in fields(kind)]
        columns = {name: [*map(attrgetter(name), values)] for name in names}
        return _Records(
            kind,
            {
                name: _Objects(own) if name in _IDS else _encode(own)
                for name, own in columns.items()
            },
        )
    return None


def _encode_mappings(values: Sequence[dict[Any, Any]]) -> Column | None:
    keys = tuple(dict.fromkeys(chain.from_iterable(values)))
    partial = {key: bytes(key in row for row in values) for key in keys}
    there = {key: flags for key, flags in partial.items() if not all(flags)}
    # Each row must get its keys back in its own order.
    if not keys or any(tuple(row) != tuple(key for key in keys if key in row) for row in values):
        return None
    return _Mappings({key: _encode([row.get(key) for row in values]) for key in keys}, there)


def _inner(column: Column, name: str, *path: str) -> Column:
    """The column of a field, and so on; None in the place of a key that is not there."""
    if isinstance(column, _Picked):
        column = _Picked(_inner(column.column, name), column.places)
    elif isinstance(column, _Records | _Mappings):
        column = column.fields.get(name) or _Objects([None] * len(column))
    else:
        rows = column.values()
        column = _Objects([
            row.get(name) if isinstance(row, Mapping) else getattr(row, name) for row in rows
        ])  # fmt: skip
    return _inner(column, *path) if path else column


def _change(column: Column, change: Callable[[Any], Any], *path: str) -> Column:
    if not path:
        values = column.values()
        changed = [*map(change, values)]
        return column if all(map(is_, values, changed)) else _encode(changed)
    if isinstance(column, _Picked):  # what is not picked would change, too
        return _change(_encode(column.values()), change, *path)
    name, *rest = path
    if isinstance(column, _Records | _Mappings):
        if name not in column.fields:
            return column
        return replace(
            column, fields={**column.fields, name: _change(column.fields[name], change, *rest)}
        )
    if rest:
        _change(_inner(column, name), change, *rest)
        return column
    for row in column.values():
        if name in row:
            row[name] = change(row[name])
    return column

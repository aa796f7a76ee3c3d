"""Rows of a large table as columns; a row is a Python object where somebody looks at it.

A million questions as objects take twice the memory of their texts. `pack` makes blocks of
`ROWS_IN_BLOCK` rows into columns, joined bytes of texts and arrays of numbers, and gives every row
back equal, with values of the same types. A smaller table stays a tuple: it has nothing to save.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from itertools import accumulate, chain, compress, islice, pairwise
from typing import Any, TypeVar, overload

from caft.packed.columns import (
    Column,
    Objects,
    change_column,
    encode,
    inner,
    pick_places,
)

Row = TypeVar("Row")

FEWEST_ROWS = 2**12
ROWS_IN_BLOCK = 2**9
"""Few, since the garbage collector looks through the objects of a block that is read."""


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
        blocks.append(encode(part))
    return Packed(blocks)


def join(*parts: Sequence[Row]) -> Sequence[Row]:
    """The rows of all parts, in order; what is packed is not copied."""
    if not any(isinstance(part, Packed) for part in parts):
        return pack(chain.from_iterable(parts))
    blocks = (part.blocks if isinstance(part, Packed) else [Objects(part)] for part in parts)
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
    blocks = rows.blocks if isinstance(rows, Packed) else [Objects(rows)]
    path = (name,) if key is None else (name, key)
    return chain.from_iterable(inner(block, *path).values() for block in blocks)


def change_values(
    rows: Sequence[Row], name: str, key: str, change: Callable[[Any], Any]
) -> Sequence[Row]:
    """The rows with what `change` makes of each value for `key` in a field that is a mapping.

    Rows that are not packed are changed in place.
    """
    if isinstance(rows, Packed):
        return Packed([change_column(block, change, name, key) for block in rows.blocks])
    change_column(Objects(rows), change, name, key)
    return rows


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
                yield (
                    block if last - first == len(block) else pick_places(block, range(first, last))
                )

    def pick(self, flags: Sequence[bool]) -> Packed[Row]:
        """The rows with a true flag. The others stay in memory with them."""
        picked = []
        for (start, stop), block in zip(pairwise(self._starts), self.blocks, strict=True):
            if any(own := flags[start:stop]):
                places = array("I", compress(range(len(block)), own))
                picked.append(block if all(own) else pick_places(block, places))
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

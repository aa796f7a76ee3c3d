"""Records as parquet tables, one row a record, and back.

Rows are Python objects `ROWS_AT_ONCE` at a time; the rest of a table is columns, which take a
fraction of the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from itertools import chain, islice
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from caft.store.fingerprint import plain

if TYPE_CHECKING:
    import pyarrow as pa

Record = TypeVar("Record")
Item = TypeVar("Item")

ROWS_AT_ONCE = 2**16
"""Also the rows of a row group where a table of records is larger."""


def write_table(path: Path, kind: type[Record], records: Iterable[Record]) -> None:
    """Write records of one kind; an empty table keeps its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _arrow_type(hint)) for name, hint in _columns(kind).items()])
    with pq.ParquetWriter(path, schema) as writer:
        for part in _in_parts(records):
            writer.write_table(pa.Table.from_pylist([_row(record) for record in part], schema))


def read_table(path: Path, kind: type[Record]) -> list[Record]:
    """The records that `write_table` wrote, unchanged."""
    hints = _columns(kind)
    return [
        kind(**{name: _restore(value, hints[name]) for name, value in row.items()})
        for row in _each_row(path)
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write plain rows with the columns of the first one, to be read with other tools."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = iter(rows)
    first = list(islice(rows, 1))
    names: list[str] = list(*first)
    parts = [
        pa.table({name: [row.get(name) for row in part] for name in names})
        for part in _in_parts(chain(first, rows))
    ]
    # A column that is empty in one part, or whole numbers there, has the type that fits all.
    pq.write_table(pa.concat_tables(parts, promote_options="permissive"), path)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Plain rows as `write_rows` wrote them, or only some of their columns."""
    return list(_each_row(path, columns))


def _each_row(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=None if columns is None else list(columns))
    for part in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        yield from part.to_pylist()


def _in_parts(rows: Iterable[Item]) -> Iterator[list[Item]]:
    """Up to `ROWS_AT_ONCE` rows at a time; one empty part if there are none."""
    rows = iter(rows)
    part = list(islice(rows, ROWS_AT_ONCE))
    while True:
        yield part
        if not (part := list(islice(rows, ROWS_AT_ONCE))):
            return


def _columns(kind: type) -> dict[str, object]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _row(record: object) -> dict[str, object]:
    # Arrow writes a map as pairs.
    return {
        name: list(value.items()) if isinstance(value, dict) else value
        for name, value in plain(record).items()
    }


def _bare(hint: object) -> object:
    if get_origin(hint) in (Union, UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _arrow_type(hint: object) -> pa.DataType:
    import pyarrow as pa

    hint = _bare(hint)
    if get_origin(hint) is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    if get_origin(hint) is Mapping:
        return pa.map_(pa.string(), _arrow_type(get_args(hint)[1]))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return pa.string()
    scalars: dict[object, pa.DataType] = {
        str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()
    }  # fmt: skip
    return scalars[hint]


def _restore(value: object, hint: object) -> object:
    hint = _bare(hint)
    if isinstance(value, list):
        return dict(value) if get_origin(hint) is Mapping else tuple(value)
    if isinstance(value, str) and isinstance(hint, type) and issubclass(hint, Enum):
        return hint[value]
    return value

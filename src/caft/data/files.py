"""Rows of JSONL, CSV and parquet files, as plain values with the line each came from."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caft.data.mistakes import read_each, refuse_mistakes
from caft.errors import UserError


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its values by column, and `origin`, file and line, for messages."""

    origin: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows. `columns` are all names that any row has, in order of appearance."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path_given: str, key: str) -> Table:
    """The file at `path_given`, which the user named as config `key`.

    Raises UserError where it is missing, empty, of an unknown kind or unreadable; wrong lines
    are named by file and line.
    """
    path = Path(path_given).expanduser()
    if not path.is_file():
        raise UserError(_describe_missing(path, key))
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(
            f"{key}={path_given} ends in {path.suffix or 'nothing'!r}; give a file that ends in "
            f"{', '.join(READERS)}"
        )
    try:
        rows = read(path)
    except OSError as error:
        raise UserError(f"{key}={path_given} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise UserError(f"{key}={path_given} has no rows; give a file with at least one question")
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return Table(path.name, tuple(columns), rows)


def _describe_missing(path: Path, key: str) -> str:
    if path.is_dir():
        return f"{key}={path} is a folder; name one file ({', '.join(READERS)})"
    beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
    return f"{key}={path}: there is no such file (relative paths start at {Path.cwd()}); {hint}"


def _read_jsonl(path: Path) -> tuple[Row, ...]:
    # Split on \n alone: str.splitlines would also cut inside a string that holds U+2028.
    lines = enumerate(path.read_bytes().split(b"\n"), start=1)
    filled = [(number, line) for number, line in lines if line.strip()]
    return read_each(filled, lambda item: _parse_json_line(path.name, *item))


def _parse_json_line(name: str, number: int, line: bytes) -> Row:
    origin = f"{name}:{number}"
    text = _decode(line, origin)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{origin}: not JSON ({error.msg} at column {error.colno}); give one JSON object a line"
        ) from error
    except RecursionError as error:
        raise UserError(f"{origin}: JSON nested too deeply; give one flat object a line") from error
    if not isinstance(values, dict):
        raise UserError(f"{origin}: a JSON {type(values).__name__}; give one JSON object a line")
    return Row(origin, values)


def _decode(data: bytes, origin: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{origin}: not UTF-8 (byte 0x{data[error.start]:02x} at position {error.start + 1}); "
            "save the file as UTF-8"
        ) from error


def _read_csv(path: Path) -> tuple[Row, ...]:
    data = path.read_bytes()
    for number, line in enumerate(data.split(b"\n"), start=1):
        _decode(line, f"{path.name}:{number}")
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    records: list[tuple[int, list[str]]] = []
    # A quoted cell may span lines: a record starts on the line after the one before it ended.
    start = 1
    try:
        for cells in reader:
            records.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path.name}:{start}: not readable as CSV ({error})") from error
    filled = [(number, cells) for number, cells in records if any(cells)]
    if not filled:
        return ()
    header = [cell.strip() for cell in filled[0][1]]
    _refuse_unclear_header(header, path.name)
    return read_each(filled[1:], lambda item: _name_cells(header, path.name, *item))


def _refuse_unclear_header(header: Sequence[str], name: str) -> None:
    repeated = [column for column in header if header.count(column) > 1 or not column]
    if repeated:
        raise UserError(
            f"{name}:1: the column name {repeated[0]!r} is empty or stands there twice; give "
            "every column a name of its own"
        )


def _name_cells(header: Sequence[str], name: str, number: int, cells: Sequence[str]) -> Row:
    if len(cells) != len(header):
        raise UserError(
            f"{name}:{number}: {len(cells)} cells, but the header has {len(header)} columns; "
            "quote cells that hold commas"
        )
    return Row(f"{name}:{number}", dict(zip(header, cells, strict=True)))


def _read_parquet(path: Path) -> tuple[Row, ...]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path.name}: not readable as parquet ({reason})") from error
    return tuple(Row(f"{path.name}:{number}", row) for number, row in enumerate(rows, start=1))


READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
"""How each kind of file is read, by the end of its name."""


def refuse_missing_columns(table: Table, wanted: Mapping[str, str]) -> None:
    """`wanted` maps config keys to column names; all must be in the file."""
    mistakes = []
    for key, column in wanted.items():
        if column not in table.columns:
            near = difflib.get_close_matches(column, table.columns, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            mistakes.append(
                f"{key} is {column!r}, but {table.name} has no such column; {hint}it has "
                f"{', '.join(table.columns)}"
            )
    if mistakes:
        refuse_mistakes(mistakes[:1])

"""Rows of JSONL, JSON, CSV, TSV and parquet files, as plain values with the line each came from.

All formats share the rules of cells.py for missing values and numbers.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import logging
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from caft.data.cells import find_rule, is_number, show, show_names
from caft.data.row_errors import read_each
from caft.errors import UserError, count_of, first_line
from caft.packed import ROWS_IN_BLOCK, change_values, pack, values_of

MOST_DIGITS = 4000
LARGEST_CELL = 2**31 - 1
"""Characters; the csv module's own limit, 131,072, is lower than that of JSON and parquet."""

_LONGEST_NAME = 60
_LONGEST_PATH = 300

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its values by column, and `origin` (file and line) for messages."""

    origin: str
    values: dict[str, object]

    def read_nats(self, column: str) -> float:
        """An entropy. UserError for a cell that holds none."""
        given = self.values.get(column)
        nats = float(str(given)) if is_number(given) else math.nan
        if not 0 <= nats < math.inf:
            raise self.wrong_cell(column, "give an entropy in nats, 0 or more")
        return nats

    def wrong_cell(self, column: str, advice: str, detail: str = "") -> UserError:
        """An error about the value of a column, with what to do about it."""
        value = self.values.get(column)
        blank = value is None or (isinstance(value, str) and not value.strip())
        held = "is empty" if blank else f"holds {show(value)}"
        return UserError(f"{self.origin}: column {column!r} {held}{detail}; {advice}")


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows, and all column names that any row has, in order of appearance.

    Where columns share a name (`repeated`), the rows have the values of the last one. `header` has
    the file's own names where they were adopted in another case.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    repeated: frozenset[str] = frozenset()
    header: tuple[str, ...] = ()


Read: TypeAlias = tuple[Sequence[Row], frozenset[str]]
"""A file's rows, and the column names that are repeated in it."""


def read_table(path_given: str, key: str) -> Table:
    """The file at `path_given`, which the user named as config `key`.

    Raises UserError if it is missing, empty, of an unknown kind or unreadable; names wrong lines.
    """
    path = Path(path_given).expanduser()
    read = READERS.get(path.suffix.lower())
    try:
        # Raises already for a name that is too long and a folder without permission.
        if not path.is_file():
            raise UserError(_describe_missing(path, key))
        if read is None:
            raise UserError(
                f"{key}={path_given} ends in {path.suffix or 'nothing'!r}; give a file that ends "
                f"in {', '.join(READERS)}"
            )
        rows, repeated = read(path)
    except OSError as error:
        shown = path_given if len(path_given) <= _LONGEST_PATH else show(path_given)
        raise UserError(f"{key}={shown} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise UserError(f"{key}={path_given} has no rows; give a file with at least one question")
    columns = tuple(dict.fromkeys(chain.from_iterable(values_of(rows, "values"))))
    for column in columns:
        rule = find_rule(values_of(rows, "values", column))
        rows = change_values(rows, "values", column, rule)
    return Table(path.name, columns, rows, repeated)


def _describe_missing(path: Path, key: str) -> str:
    if path.is_dir():
        return f"{key}={path} is a folder; name one file ({', '.join(READERS)})"
    if path.exists():
        return f"{key}={path} is a device or a pipe; name a file ({', '.join(READERS)})"
    if path.is_symlink():
        return f"{key}={path} is a link to {path.readlink()}, which is missing; correct the link"
    neighbours = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, neighbours, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
    return f"{key}={path}: there is no such file (relative paths start at {Path.cwd()}); {hint}"


def _read_jsonl(path: Path) -> Read:
    # Not as text, where a line may also end in U+2028 inside a string.
    with path.open("rb") as lines:
        filled = (
            (number, line.removesuffix(b"\n"))
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )
        return read_each(filled, lambda item: _parse_json_line(path.name, *item)), frozenset()


def _parse_json_line(name: str, number: int, line: bytes) -> Row:
    origin = f"{name}:{number}"
    text = _decode(line, origin)
    try:
        values = json.loads(text, parse_int=_read_digits)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{origin}: not JSON ({error.msg} at column {error.colno}); give one JSON object a line"
        ) from error
    except RecursionError as error:
        raise UserError(f"{origin}: JSON nested too deeply; give one flat object a line") from error
    if not isinstance(values, dict):
        raise UserError(f"{origin}: a JSON {type(values).__name__}; give one JSON object a line")
    # One text a column, not one a row.
    return Row(origin, {sys.intern(name): value for name, value in values.items()})


def _read_json(path: Path) -> Read:
    """A list of objects, one that an object holds, one object, or one object a line."""
    text = _decode(path.read_bytes(), path.name)
    try:
        values = json.loads(text if text.strip() else "[]", parse_int=_read_digits)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and re.fullmatch(r"\s*\{.*\s*", text[: error.pos]):
            return _read_jsonl(path)
        where = f"{path.name}:{error.lineno}: not JSON ({error.msg} at column {error.colno})"
        raise UserError(f"{where}; give a list of objects") from error
    except RecursionError as error:
        raise UserError(f"{path.name}: JSON nested too deeply; give flat objects") from error
    rows = enumerate(_find_rows(path.name, values), start=1)
    return read_each(rows, partial(_as_row, path.name)), frozenset()


def _find_rows(name: str, values: object) -> list[object]:
    """The list, the one list of objects that an object holds, as in {"data": [...]}, or one row."""
    if not isinstance(values, dict):
        return values if isinstance(values, list) else [values]
    keys = [
        key for key, held in values.items()
        if isinstance(held, list) and held and all(isinstance(each, dict) for each in held)
    ]  # fmt: skip
    if len(keys) > 1:
        raise UserError(
            f"{name}: a JSON object with several lists of objects ({show_names(keys)}); save each "
            "as a file of its own that holds only the list"
        )
    if keys:
        log.info("%s: the rows are the list under %s", name, show(keys[0]))
    return list(values[keys[0]]) if keys else [values]


def _as_row(name: str, item: tuple[int, object]) -> Row:
    number, values = item
    if not isinstance(values, dict):
        raise UserError(f"{name}:{number}: a JSON {type(values).__name__}; give a list of objects")
    return Row(f"{name}:{number}", values)


def _read_digits(digits: str) -> int | str:
    # Python refuses to read longer ones, and no answer has as many: they stay a text.
    return int(digits) if len(digits) <= MOST_DIGITS else digits


def _decode(data: bytes, origin: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{origin}: not UTF-8 (byte 0x{data[error.start]:02x} at position {error.start + 1}); "
            "save the file as UTF-8"
        ) from error


def _read_separated(path: Path, separators: str) -> Read:
    data = path.read_bytes()
    for number, line in enumerate(data.split(b"\n"), start=1):
        _decode(line, f"{path.name}:{number}")
    text = data.decode("utf-8-sig")
    # Some spreadsheets write such a line above the header.
    named = re.match(r"sep=(.)\r?\n", text)
    separator = named[1] if named else _find_separator(text, separators)
    records = _read_records(text, separator, path.name)[1 if named else 0 :]
    filled = [(number, cells) for number, cells in records if any(cells)]
    if not filled:
        return (), frozenset()
    header = [cell.strip() for cell in filled[0][1]]
    if _has_row_names(header, [cells for _, cells in filled[1:]]):
        header = ["", *header]
    repeated = frozenset(column for column in header if column and header.count(column) > 1)
    return read_each(filled[1:], lambda item: _name_cells(header, path.name, *item)), repeated


def _has_row_names(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether every row begins with its number, as R writes tables, without a column name."""
    return all(
        row[0] == str(number) and len(row) == len(header) + 1
        for number, row in enumerate(rows, start=1)
    )


def _find_separator(text: str, separators: str) -> str:
    """The one of `separators` that gives the first line most cells; the first in a tie."""

    def count(separator: str) -> int:
        try:
            records = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
            return len(next((cells for cells in records if any(cells)), []))
        except csv.Error:
            return 0

    return max(separators, key=count)


def _read_records(text: str, separator: str, name: str) -> list[tuple[int, list[str]]]:
    """Every record with the line it starts on."""
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records: list[tuple[int, list[str]]] = []
    # A quoted cell may span lines.
    start = 1
    try:
        for cells in reader:
            records.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{name}:{start}: not readable as CSV ({error})") from error
    return records


def _name_cells(header: Sequence[str], name: str, number: int, cells: Sequence[str]) -> Row:
    # Lines may end in extra commas, in the header or in the rows.
    least = max((place for place, column in enumerate(header, start=1) if column), default=0)
    if len(cells) < least or any(cell.strip() for cell in cells[len(header) :]):
        raise UserError(
            f"{name}:{number}: {count_of(len(cells), 'cell')}, but the header has "
            f"{count_of(len(header), 'column')}; quote cells that hold commas"
        )
    named = zip(header, cells, strict=False)
    # A column without a name, such as a table library's index, is dropped.
    return Row(f"{name}:{number}", {column: cell for column, cell in named if column})


def _read_parquet(path: Path) -> Read:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.read_table(path).to_batches(max_chunksize=ROWS_IN_BLOCK)
        rows = (row for batch in batches for row in batch.to_pylist())
        read = pack(Row(f"{path.name}:{n}", row) for n, row in enumerate(rows, start=1))
    # Python has no date beyond the year 9999, and not every time zone (a KeyError or ValueError).
    except (pyarrow.ArrowException, OverflowError, KeyError, ValueError) as error:
        raise UserError(
            f"{path.name}: not readable as parquet ({first_line(error)}); write the file again"
        ) from error
    return read, frozenset()


READERS: Mapping[str, Callable[[Path], Read]] = {
    ".jsonl": _read_jsonl,
    ".csv": partial(_read_separated, separators=",;\t"),
    ".parquet": _read_parquet,
    ".json": _read_json,
    ".tsv": partial(_read_separated, separators="\t"),
}
"""The reader of each kind of file, by the end of its name."""


def refuse_missing_columns(
    table: Table, wanted: Mapping[str, str], advice: Mapping[str, str] = MappingProxyType({})
) -> None:
    """UserError unless the file has every column of `wanted` (config key to name) exactly once.

    `advice` ends the message about a key.
    """
    missing = {key: column for key, column in wanted.items() if column not in table.columns}
    if 2 * len(missing) > len(wanted) and (cell := _find_data_in_header(table)):
        raise UserError(
            f"{table.name}:1 is not a header: {show(cell)} is not a column name; put a line of "
            f"names above the rows, such as {','.join(wanted.values())}"
        )
    near = _find_near(missing, [each for each in table.columns if each not in wanted.values()])
    held = show_names(table.header or table.columns) or "no column with a name"
    all_missing = len(missing) == len(wanted) and _has_header(table) and not near
    end = _HEADER_ADVICE if all_missing else ""
    # Whether there are options shows where question and answer are found. Columns of a published
    # file are no settings.
    columns = [key for key in missing if " " not in key]
    several = [key for key in columns if not key.startswith("dataset.columns.options")]
    if len(several) > 1:
        given = (f"{key}={near.get(key, 'NAME')}" for key in several)
        raise UserError(
            f"{table.name} has neither {' nor '.join(missing[key] for key in several)}; it has "
            f"{held}; give {' '.join(given)}{end}"
        )
    for key, column in missing.items():
        hint = f"did you mean {near[key]!r}? " if key in near else ""
        raise UserError(
            f"{key} is {column!r}, but {table.name} has no such column; {hint}it has {held}"
            f"{advice.get(key, '')}{end}"
        )
    for key, column in wanted.items():
        if column in table.repeated:
            raise UserError(
                f"{table.name}:1: the column name {column!r}, which {key} names, occurs twice; "
                "give that column a name of its own"
            )


def _find_near(missing: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """The column of each key that has a near one; where two keys have the same, of the nearer."""
    likeness = {
        (key, column): difflib.SequenceMatcher(None, column, name).ratio()
        for key, name in missing.items()
        for column in columns
    }
    near: dict[str, str] = {}
    for key, column in sorted(likeness, key=lambda pair: -likeness[pair]):
        if likeness[key, column] >= _NEAR and key not in near and column not in near.values():
            near[key] = column
    return near


_NEAR = 0.6
"""How alike two names are of which one may be meant by the other, as difflib has it."""

_HEADER_ADVICE = "; if that is a row like the others, put a header, a line of names, above it"


def _has_header(table: Table) -> bool:
    return table.name.lower().endswith((".csv", ".tsv"))


def _find_data_in_header(table: Table) -> str | None:
    """A cell of the header which shows that the line is a row like the others."""
    for column in table.columns if _has_header(table) else ():
        seen = any(row.values.get(column) == column for row in table.rows)
        if seen or is_number(column) or len(column) > _LONGEST_NAME or column.endswith("?"):
            return column
    return None


def adopt_names(table: Table, names: Sequence[str]) -> Table:
    """The table with its columns renamed to `names` where only the case differs."""
    by_case: dict[str, list[str]] = {}
    for column in table.columns:
        by_case.setdefault(column.casefold(), []).append(column)
    renamed = {column: column for column in table.columns}
    for name in names:
        same = by_case.get(name.casefold(), [])
        # A column that is requested by its exact name keeps it.
        if name not in table.columns and len(same) == 1 and same[0] not in names:
            renamed[same[0]] = name
    if all(column == name for column, name in renamed.items()):
        return table
    log.info("%s: column names are read without regard to case", table.name)
    return Table(
        table.name,
        tuple(renamed.values()),
        pack(
            Row(row.origin, {renamed[column]: cell for column, cell in row.values.items()})
            for row in table.rows
        ),
        frozenset(renamed[column] for column in table.repeated),
        table.header or table.columns,
    )

"""Digests of everything that a stage depends on."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import caft
from caft.store.checksums import sum_file


def digest(value: object) -> str:
    """20 hexadecimal digits of SHA-256 over `value` written canonically.

    Takes records, configs, mappings, sequences, iterators, enums and plain values. Floats are
    written by `repr`, so that equal numbers give equal digests on every machine.
    """
    hashed = hashlib.sha256()
    for piece in _write(value):
        hashed.update(piece.encode())
    return hashed.hexdigest()[:20]


def _write(value: object) -> Iterator[str]:
    """The text of `json.dumps(plain(value), sort_keys=True)`, a list item by item.

    A million rows as one text take gigabytes.
    """
    if not isinstance(value, Sequence | Iterator) or isinstance(value, str | bytes):
        yield json.dumps(plain(value), sort_keys=True)
        return
    yield "["
    for number, item in enumerate(value):
        yield (", " if number else "") + json.dumps(plain(item), sort_keys=True)
    yield "]"


def plain(value: object) -> Any:
    """`value` as JSON's own types; dataclasses become tables of their fields."""
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | Path | None):
        return str(value) if isinstance(value, Path) else value
    if isinstance(value, Set):
        # A set's order differs from process to process.
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"cannot write a {type(value).__name__} canonically")


def source_digest(*names: str, root: Path | None = None) -> str:
    """20 hexadecimal digits over the code of rooms and files: `score`, `trainers/build.py`.

    Only code that Python runs counts: comments, docstrings and layout make no difference. `root` is
    the package's folder, by default this one's.
    """
    root = root or Path(caft.__file__).parent
    hashed = hashlib.sha256()
    for file in source_files(*names, root=root):
        code = _code_digest(file.read_bytes())
        hashed.update(f"{file.relative_to(root).as_posix()} {code}\n".encode())
    return hashed.hexdigest()[:20]


def source_files(*names: str, root: Path) -> list[Path]:
    """The Python files that rooms and files below `root` are, each once, in one order."""
    found: set[Path] = set()
    for name in names:
        path = root / name
        files = [path] if path.is_file() else list(path.rglob("*.py"))
        assert files, f"no source in {name}"
        found.update(files)
    return sorted(found)


# A run asks for the same few dozen files again and again, and reading one takes milliseconds.
@lru_cache(maxsize=512)
def _code_digest(source: bytes) -> str:
    return hashlib.sha256(json.dumps(_code(ast.parse(source))).encode()).hexdigest()


def _code(part: object) -> object:
    """A syntax tree as JSON's own types. Not `ast.dump`: that changes between Python versions.

    Empty fields are left out, so that a field which a later Python adds changes nothing.
    """
    if isinstance(part, list):
        return [_code(item) for item in part if not _is_remark(item)]
    if not isinstance(part, ast.AST):
        return repr(part)
    if isinstance(part, ast.Constant):
        return ["Constant", repr(part.value)]
    there = [(name, value) for name, value in ast.iter_fields(part) if value not in (None, [])]
    return [type(part).__name__, *([name, _code(value)] for name, value in there)]


def _is_remark(part: object) -> bool:
    """A docstring, or a string that documents a name: neither has an effect."""
    return (
        isinstance(part, ast.Expr)
        and isinstance(part.value, ast.Constant)
        and isinstance(part.value.value, str)
    )


def file_digest(folder: Path) -> str:
    """20 hexadecimal digits over the contents of a folder's files, without its subfolders."""
    hashed = hashlib.sha256()
    for path in sorted(item for item in folder.iterdir() if item.is_file()):
        hashed.update(f"{path.name} {sum_file(path).sha256}\n".encode())
    return hashed.hexdigest()[:20]

"""What a stage depends on, as a short name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import caft


def digest(value: Any) -> str:
    """20 hexadecimal digits of SHA-256 over `value` written canonically.

    Takes records, configs, mappings, sequences, enums and plain values. Floats are written by
    `repr`, so that equal numbers give equal digests on every machine.
    """
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def plain(value: Any) -> Any:
    """`value` as JSON's own types; dataclasses become tables of their fields."""
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool | Path | None):
        return str(value) if isinstance(value, Path) else value
    if isinstance(value, Set):
        # A set's order is another one in every process.
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"cannot write a {type(value).__name__} canonically")


def source_digest(*names: str) -> str:
    """20 hexadecimal digits over the sources of rooms and files: `score`, `trainers/build.py`."""
    root = Path(caft.__file__).parent
    hashed = hashlib.sha256()
    for name in sorted(names):
        path = root / name
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        assert files, f"no source in {name}"
        for file in files:
            hashed.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return hashed.hexdigest()[:20]


def file_digest(folder: Path) -> str:
    """20 hexadecimal digits over the contents of a folder's files, without its subfolders."""
    hashed = hashlib.sha256()
    for path in sorted(item for item in folder.iterdir() if item.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        hashed.update(f"{path.name} {content}\n".encode())
    return hashed.hexdigest()[:20]

"""Checksums of files and lines, to find later changes.

SHA-256 reads 500 MB in 0.3 s where the processor has instructions for it and in 0.8 s elsewhere;
BLAKE2b takes 0.4 s on both, but only SHA-256 has a common command to check it, `sha256sum`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from caft.store.disk import remove


@dataclass(frozen=True, slots=True)
class FileSum:
    """A file's size in bytes and the 64 hexadecimal digits of its SHA-256."""

    bytes: int
    sha256: str


def sum_file(path: Path) -> FileSum:
    """Read the whole file; OSError if it cannot be read."""
    with path.open("rb") as stream:
        summed = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileSum(stream.tell(), summed)


def list_files(folder: Path) -> list[str]:
    """Every file below `folder`, as `adapter/config.json`, in order.

    Hidden ones are left out: file browsers and network disks leave them, and no stage reads them.
    """
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        # A link to a folder is not walked, and counts as one more name.
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = (name for name in (*files, *linked) if not name.startswith("."))
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in visible]
    return sorted(found)


def find_change(folder: Path, expected: Mapping[str, FileSum]) -> str | None:
    """What is wrong with the first file that is not as expected; None if all are.

    PermissionError passes: a file that must not be read may be sound.
    """
    for name, file_sum in expected.items():
        if problem := _compare(folder / name, file_sum):
            return f"{name} {problem}"
    return None


def copy_compared(source: Path, copy: Path, expected: FileSum) -> str | None:
    """Copy a file; what is wrong with the copy, or None."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    # An existing target is replaced, not written through: it may be a link.
    remove(copy)
    if not source.is_file():
        return "is missing"
    shutil.copy2(source, copy)
    return _compare(copy, expected)


def _compare(path: Path, expected: FileSum) -> str | None:
    try:
        size = path.stat().st_size
        if not path.is_file():
            return "is not a file"
        if size != expected.bytes:
            return f"has {size:,} bytes instead of {expected.bytes:,}"
        if sum_file(path) != expected:
            return "has another SHA-256 than when it was written"
    except FileNotFoundError:
        return "is a broken link" if path.is_symlink() else "is missing"
    except PermissionError:
        raise
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def sign_line(text: str) -> str:
    """`text` (one line) after 8 hexadecimal digits of its CRC-32."""
    return f"{_checksum(text.encode())} {text}"


def read_line(line: bytes) -> str | None:
    """What `sign_line` was given, or None if the line was changed."""
    checksum, _, content = line.partition(b" ")
    return content.decode() if checksum == _checksum(content).encode() else None


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"

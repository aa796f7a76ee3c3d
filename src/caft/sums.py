"""SHA256SUMS: what the files of a folder were when they were written.

It has the form of the command `sha256sum`, which checks it as well: `sha256sum -c SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SUMS = "SHA256SUMS"


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write down the sums of these files of `folder`. OSError if one cannot be read."""
    lines = [f"{digest_file(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def find_changed(folder: Path) -> Path | None:
    """A file of `folder` that is not what it was; None if all are, or there are no sums."""
    sums = folder / SUMS
    if not sums.is_file():
        return None
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if path.parent != folder or not path.is_file() or digest_file(path) != expected:
            return path
    return None


def digest_file(path: Path) -> str:
    """SHA-256 of its contents in hexadecimal digits. OSError if it cannot be read.

    Once a process and state of the file: a sweep's plan asks for every job.
    """
    stat = path.stat()
    return _digest_contents(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@cache
def _digest_contents(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Whether a run has ended in a folder, and its files are what they were when it did.

SHA256SUMS has the form of the command `sha256sum`, which checks it as well: `sha256sum -c
SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

SUMS = "SHA256SUMS"
UNFINISHED = ".hydra/unfinished"
"""A file that is in a run's folder from its start to its end."""


def is_finished(folder: Path) -> bool:
    """Whether a run has ended there, and its numbers and tables are those that it has left."""
    ended = not (folder / UNFINISHED).exists() and read_summary(folder) is not None
    return ended and find_changed(folder) is None


def read_summary(folder: Path) -> dict[str, Any] | None:
    """A run's summary.json; None if there is none that can be read."""
    summary = read_json(folder / "summary.json")
    return summary if isinstance(summary, dict) else None


def read_json(path: Path) -> object:
    """What the file holds; None if there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


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

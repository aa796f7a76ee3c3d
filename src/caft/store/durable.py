"""What is on disk stays there when the power goes."""

from __future__ import annotations

import os
from pathlib import Path

from caft.store.removing import remove


def make_durable(path: Path) -> None:
    """Wait until a file's contents, or a folder's list of names, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, text: str) -> None:
    """Write a whole file or none: under another name first, made durable, then renamed."""
    fresh = path.with_name(f".{path.name}")
    remove(fresh)
    try:
        fresh.write_text(text, encoding="utf-8")
        make_durable(fresh)
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    make_durable(path.parent)

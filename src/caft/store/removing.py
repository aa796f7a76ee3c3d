"""Taking away what is in the way, whatever it is: a file, a folder, a link to nowhere."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether anything has that name, a link to nowhere included."""
    return os.path.lexists(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that it holds; nothing where nothing is."""
    while path.is_dir() and not path.is_symlink():
        # Another process may be removing it, too, and be faster.
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def move_aside(path: Path, folder: Path, name: str) -> Path:
    """Move `path` into `folder` as `name`, with a number where that is taken; its new place."""
    folder.mkdir(parents=True, exist_ok=True)
    number, target = 1, folder / name
    while is_there(target):
        number += 1
        target = folder / f"{name}-{number}"
    # A stage's folder may lie on another disk, where renaming fails.
    shutil.move(path, target)
    # It is as old as the move: what was set aside today is not pruned today.
    os.utime(target, follow_symlinks=False)
    return target

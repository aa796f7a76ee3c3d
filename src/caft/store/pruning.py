"""Removes old work from the store: never what a run makes or reads, and never in part."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from caft.store.artifacts import TRASH, Store
from caft.store.disk import is_there, remove
from caft.store.locks import hold_lock, without_readers
from caft.store.manifest import UNFINISHED

_SECONDS_A_DAY = 86400


@dataclass(slots=True)
class Pruned:
    """What was removed, by kind; what a run uses; and what could not be removed, and why.

    A dry one notes what it would remove, and removes nothing.
    """

    dry: bool = False
    artifacts: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    in_use: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    bytes: int = 0

    def remove(self, path: Path, removed: list[Path]) -> None:
        """Remove `path` and note it in `removed`, or why it is still there."""
        size = count_bytes(path)
        try:
            if not self.dry:
                remove(path)
        except OSError as error:
            self.failed.append(f"{path}: {error.strerror}")
            return
        removed.append(path)
        self.bytes += size


def prune(store: Store, days: float, *, dry: bool = False) -> Pruned:
    """Remove what is older than `days`: artefacts, interrupted work, and what was set aside.

    Also what an interrupted pruning left, whatever its age.
    """
    pruned = Pruned(dry=dry)
    for folder in store.folders(TRASH):
        pruned.remove(folder, pruned.left)
    for prefix, removed in (("", pruned.artifacts), (UNFINISHED, pruned.unfinished)):
        for folder in store.folders(prefix):
            if age_days(folder) > days:
                _prune_locked(folder, removed, pruned)
    for path in store.damaged():
        if age_days(path) > days:
            pruned.remove(path, pruned.damaged)
    return pruned


def age_days(path: Path) -> float:
    """Days since anything inside was last written; active work keeps writing files."""
    times = [each.st_mtime for each in _stats(path)]
    return (time.time() - max(times, default=0.0)) / _SECONDS_A_DAY


def count_bytes(path: Path) -> int:
    """The bytes of its files."""
    return sum(each.st_size for each in _stats(path) if stat.S_ISREG(each.st_mode))


def _prune_locked(folder: Path, removed: list[Path], pruned: Pruned) -> None:
    """Remove `folder` where no run makes or reads it, and none can begin to meanwhile."""
    with hold_lock(folder, wait=False) as unmade, without_readers(folder) as unread:
        if not (unmade and unread):
            pruned.in_use.append(folder)
        elif pruned.dry:
            pruned.remove(folder, removed)
        elif is_there(folder):
            trash = folder.with_name(f"{TRASH}{folder.name.removeprefix(UNFINISHED)}")
            try:
                remove(trash)
                # Renamed first: a half-removed folder must not be taken for an artefact.
                folder.rename(trash)
            except OSError as error:
                pruned.failed.append(f"{folder}: {error.strerror}")
                return
            pruned.remove(trash, removed)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of `path` and all that is in it, as far as it is still there when it is looked at."""
    inner = (Path(at) / name for at, folders, files in os.walk(path) for name in folders + files)
    for each in (path, *inner):
        with suppress(FileNotFoundError):
            yield each.lstat()

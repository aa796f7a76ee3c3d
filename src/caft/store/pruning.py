"""Takes old work out of the store: never what a run makes or reads, and never half of anything."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from caft.store.artifacts import LOCKS, TRASH, UNFINISHED, Store
from caft.store.locking import try_lock
from caft.store.removing import is_there, remove
from caft.store.uses import alone_with

_SECONDS_A_DAY = 86400


@dataclass(slots=True)
class Pruned:
    """What was removed, by what it was; what a run uses; and what could not be removed, and why."""

    artifacts: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    in_use: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    bytes: int = 0


def prune(store: Store, days: float) -> Pruned:
    """Remove what is older than `days`: artefacts, interrupted work, and what was set aside.

    Also what an interrupted pruning left, whatever its age.
    """
    pruned = Pruned()
    for folder in store.folders(TRASH):
        _remove(folder, [], pruned)
    for found, removed in (
        (store.folders(""), pruned.artifacts),
        (store.unfinished(), pruned.unfinished),
    ):
        for folder in found:
            if age_days(folder) > days:
                _prune_locked(store, folder, removed, pruned)
    for path in store.damaged():
        if age_days(path) > days:
            _remove(path, pruned.damaged, pruned)
    return pruned


def age_days(path: Path) -> float:
    """Days since anything in there was last written; work that goes on writes files."""
    times = [each.st_mtime for each in _stats(path)]
    return (time.time() - max(times, default=0.0)) / _SECONDS_A_DAY


def count_bytes(path: Path) -> int:
    """What its files take."""
    return sum(each.st_size for each in _stats(path) if stat.S_ISREG(each.st_mode))


def _prune_locked(store: Store, folder: Path, removed: list[Path], pruned: Pruned) -> None:
    with _alone(store, folder) as alone:
        if not alone:
            pruned.in_use.append(folder)
        elif is_there(folder):
            fingerprint = folder.name.removeprefix(UNFINISHED)
            trash = folder.with_name(f"{TRASH}{fingerprint}")
            try:
                remove(trash)
                # First out of the way: what is half removed must not be taken for an artefact.
                folder.rename(trash)
            except OSError as error:
                pruned.failed.append(f"{folder}: {error.strerror}")
                return
            _remove(trash, removed, pruned)


@contextmanager
def _alone(store: Store, folder: Path) -> Iterator[bool]:
    """Whether no run makes or reads what is in `folder`; none begins to in the body."""
    fingerprint = folder.name.removeprefix(UNFINISHED)
    with (
        try_lock(store.path / LOCKS, folder.parent.name, fingerprint) as unmade,
        alone_with(folder) as unread,
    ):
        yield unmade and unread


def _remove(path: Path, removed: list[Path], pruned: Pruned) -> None:
    size = count_bytes(path)
    try:
        remove(path)
    except OSError as error:
        pruned.failed.append(f"{path}: {error.strerror}")
        return
    removed.append(path)
    pruned.bytes += size


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of `path` and all that is in it, as far as it is still there when it is looked at."""
    yield from _stat(path)
    for place, folders, files in os.walk(path):
        for name in (*folders, *files):
            yield from _stat(Path(place) / name)


def _stat(path: Path) -> Iterator[os.stat_result]:
    with suppress(FileNotFoundError):
        yield path.lstat()

"""Attempts at one piece of work, in one folder: how long they took, and what they left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from caft.store.lines import read_line, sign_line
from caft.store.manifest import MANIFEST
from caft.store.measure import Effort, measured
from caft.store.removing import is_there, remove

log = logging.getLogger(__name__)
_NOTE = ".attempt"


def run_attempt(
    folder: Path, produce: Callable[[Path], None], *, resumable: bool, scratch: Sequence[str]
) -> Effort:
    """What `produce(folder)` took, with the seconds of the attempts that it goes on from.

    It finds what those left: everything, or only what `scratch` names, where that is given.
    """
    _clear(folder, scratch)
    try:
        with measured() as effort:
            earlier = _begin_attempt(folder) if resumable else 0.0
            produce(folder)
    except BaseException:
        _drop_attempt(folder, resumable=resumable)
        raise
    effort.seconds += earlier
    return effort


def is_scratch(name: str, scratch: Sequence[str]) -> bool:
    """Whether `name`, as `checkpoints/step-1/state`, lies in what one of the patterns names."""
    first = name.partition("/")[0]
    return any(fnmatchcase(first, pattern) for pattern in scratch)


def end_attempt(folder: Path) -> None:
    """The note has been read for the last time."""
    (folder / _NOTE).unlink(missing_ok=True)


def _begin_attempt(folder: Path) -> float:
    """The seconds of earlier attempts, which are noted with the moment that this one begins.

    An attempt may have been killed: it lasted, as far as it counts, until its last write.
    """
    note = folder / _NOTE
    earlier = 0.0
    if is_there(note):
        try:
            earlier = _read_seconds(note) + _seconds_since(note)
        except (OSError, ValueError):
            log.warning("%s is damaged: earlier attempts count as 0 seconds", note)
            remove(note)
    note.write_text(sign_line(str(earlier)), encoding="utf-8")
    return earlier


def _clear(folder: Path, scratch: Sequence[str]) -> None:
    """Remove what nothing can go on from: other files than those named, and links to nowhere."""
    remove(folder / MANIFEST)
    for path in list(folder.iterdir()):
        if scratch and path.name != _NOTE and not is_scratch(path.name, scratch):
            remove(path)
    for path in list(folder.rglob("*")):
        if path.is_symlink() and not path.exists():
            path.unlink()


def _drop_attempt(folder: Path, *, resumable: bool) -> None:
    """Remove what a failed attempt left, unless the next one can go on from there."""
    # The attempt's own error is on its way.
    with suppress(OSError):
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != _NOTE]
        if not resumable or not any(path.stat().st_size for path in files):
            remove(folder)


def _read_seconds(note: Path) -> float:
    text = read_line(note.read_bytes())
    if text is None:
        raise ValueError(f"{note} has another checksum")
    return float(text)


def _seconds_since(note: Path) -> float:
    last = max(path.lstat().st_mtime for path in note.parent.rglob("*"))
    return last - note.stat().st_mtime

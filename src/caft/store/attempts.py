"""Attempts at one artefact, in its unfinished folder: run, sealed with a manifest, published."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from caft.store.checksums import find_change, list_files, read_line, sign_line, sum_file
from caft.store.disk import is_there, make_all_durable, make_durable, remove, remove_closed
from caft.store.fingerprint import digest, plain
from caft.store.manifest import MANIFEST, DamagedError, Manifest, read_manifest, write_manifest
from caft.store.measure import NO_TOKENS, Effort, Tokens, measured

log = logging.getLogger(__name__)
_NOTE = ".attempt"
_RENAMED = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.ESTALE)


def run_attempt(
    folder: Path,
    produce: Callable[[Path], Tokens | None],
    *,
    resumable: bool,
    scratch: Sequence[str],
) -> Effort:
    """Run `produce(folder)`; returns its effort, with the seconds of the attempts that it resumes.

    It finds what those left: everything, or only what `scratch` names, where that is given.
    """
    _clear(folder, scratch)
    try:
        with measured() as effort:
            earlier = _begin_attempt(folder) if resumable else 0.0
            effort.tokens = produce(folder) or NO_TOKENS
    except BaseException:
        _drop_attempt(folder, resumable=resumable)
        raise
    effort.seconds += earlier
    return effort


def seal(
    folder: Path, stage: str, key: Mapping[str, object], effort: Effort, scratch: Sequence[str]
) -> None:
    """Write the manifest, which marks `folder` as finished: of all in it except `scratch`."""
    names = [name for name in list_files(folder) if not _is_scratch(name, scratch)]
    manifest = Manifest(
        stage=stage,
        fingerprint=digest(key),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=effort.seconds,
        peak_memory_bytes=effort.peak_memory_bytes,
        tokens=effort.tokens,
        key=plain(key),
        files={name: sum_file(folder / name) for name in names if name != MANIFEST},
    )
    for name in manifest.files:
        make_durable(folder / name)
    write_manifest(folder, manifest)


def is_sealed(folder: Path) -> bool:
    """Whether an attempt was killed between its seal and its publishing."""
    try:
        return find_change(folder, read_manifest(folder).files) is None
    except (DamagedError, OSError):
        return False


def publish(unfinished: Path, folder: Path, scratch: Sequence[str]) -> None:
    """Rename the sealed attempt to the artefact `folder`.

    One that is there already, whole, is as good: on a network disk an answer may be lost, and a
    rename done twice.
    """
    for path in list(unfinished.iterdir()):
        if path.name == _NOTE or _is_scratch(path.name, scratch):
            remove_closed(path)
    make_all_durable(unfinished)
    try:
        unfinished.rename(folder)
    except OSError as error:
        if error.errno not in _RENAMED or not is_sealed(folder):
            raise
        remove_closed(unfinished)
    make_durable(folder.parent)


def _is_scratch(name: str, scratch: Sequence[str]) -> bool:
    """Whether `name`, such as `checkpoints/step-1/state`, matches a pattern or is below a match."""
    first = name.partition("/")[0]
    return any(fnmatchcase(first, pattern) for pattern in scratch)


def _begin_attempt(folder: Path) -> float:
    """The seconds of earlier attempts; they are noted together with the start of this one.

    An attempt may have been killed: its time counts until its last write.
    """
    note = folder / _NOTE
    earlier = 0.0
    if is_there(note):
        try:
            last = max(path.lstat().st_mtime for path in folder.rglob("*"))
            # A changed line is read as None, which is not a number.
            earlier = float(read_line(note.read_bytes()) or "") + (last - note.stat().st_mtime)
        except (OSError, ValueError):
            log.warning("%s is damaged: earlier attempts count as 0 seconds", note)
            remove(note)
    note.write_text(sign_line(str(earlier)), encoding="utf-8")
    return earlier


def _clear(folder: Path, scratch: Sequence[str]) -> None:
    """Remove what nothing can resume: other files than those named, and broken links."""
    remove(folder / MANIFEST)
    for path in list(folder.iterdir()):
        if scratch and path.name != _NOTE and not _is_scratch(path.name, scratch):
            remove(path)
    for path in list(folder.rglob("*")):
        if path.is_symlink() and not path.exists():
            path.unlink()


def _drop_attempt(folder: Path, *, resumable: bool) -> None:
    """Remove what a failed attempt left, unless the next one can resume it."""
    # The attempt's own error is being raised.
    with suppress(OSError):
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != _NOTE]
        if not resumable or not any(path.stat().st_size for path in files):
            remove(folder)

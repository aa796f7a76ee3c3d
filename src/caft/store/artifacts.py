"""Stage outputs by fingerprint: written to a side folder, made durable, then renamed into place.

Whatever is taken is compared with what was written. What differs is set aside and never used, and
the artefact is made again.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from caft.errors import UserError
from caft.signals import end_if_asked
from caft.store.attempts import is_sealed, publish, run_attempt, seal
from caft.store.checksums import FileSum, copy_compared, find_change, list_files
from caft.store.disk import disk_may_be_full, is_there, make_folder, move_aside, remove
from caft.store.fingerprint import digest
from caft.store.locks import ReadLocks, hold_lock, warn_of_local_locks
from caft.store.manifest import MANIFEST, UNFINISHED, DamagedError, Manifest, read_manifest
from caft.store.measure import NO_TOKENS, Tokens
from caft.store.stage import Stage, StageKind

log = logging.getLogger(__name__)
State = Mapping[str, tuple[int, ...]]
"""Inode, size and times of every file of an artefact."""

TRASH = ".trash-"
DAMAGED = "damaged"
_FINGERPRINT = re.compile(r"[0-9a-f]{20}")
_IF_FULL = (
    "make room there, or move the store and set store.path, and run the same command again (a "
    "stage that keeps checkpoints resumes from its last one)"
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished stage's folder.

    `seconds` are those of every attempt at it, each up to the last thing that it kept; `tokens`
    are those of its whole result; `peak_memory_bytes` is that of the attempt that finished it.
    `files` has what every file held when it was written, by its path inside the folder; `key` is
    what it depends on.
    """

    stage: str
    fingerprint: str
    folder: Path
    cached: bool
    seconds: float
    peak_memory_bytes: int
    files: Mapping[str, FileSum]
    tokens: Tokens = NO_TOKENS
    key: Mapping[str, object] = field(default_factory=dict, repr=False)

    def copy_out(self, part: str, target: Path) -> None:
        """Copy the files of a subfolder into `target`; each copy is compared with what was made.

        UserError if one differs: the store was changed during this run.
        """
        for name, expected in self.files.items():
            first, _, rest = name.partition("/")
            if first != part:
                continue
            if problem := copy_compared(self.folder / name, target / rest, expected):
                raise UserError(
                    f"{self.folder} was changed during this run: {name} {problem}; run the "
                    "same command again, which makes it again"
                )


class Store:
    """A folder of artefacts, one subfolder a stage, shared by every run and every job.

    Artefacts that were taken are not pruned while this object lives. `ledger_path` is the file, or
    the address, of teacher replies that were paid for.
    """

    def __init__(
        self, path: Path, *, ledger: Path | str | None = None, reads_only: bool = False
    ) -> None:
        """Open or create the store; UserError if its folder cannot be written.

        `ledger` is a file or an address; by default it is a file in the store.

        One that `reads_only` is not created: where there is none, nothing is found in it.
        """
        self.path = path.absolute()
        self.ledger_path = ledger or self.path / "ledger.sqlite"
        self._read_locks = ReadLocks()
        # What was compared already is read again only where its sizes or times have changed.
        self._compared: dict[Path, State | None] = {}
        self._warned: set[Path] = set()
        if reads_only:
            return
        try:
            make_folder(self.path)
        except OSError as error:
            reason = error.strerror
            if self.path.is_symlink():
                reason = f"it is a link to {os.readlink(self.path)}, which is not there"
            raise UserError(
                f"store.path is {path}: {reason}; name a folder that can be written"
            ) from error
        if not os.access(self.path, os.W_OK):
            raise UserError(f"store.path is {path}: not writable; name a folder that is")
        warn_of_local_locks(self.path)

    def find(self, stage: Stage[object]) -> Artifact | None:
        """The artefact of `stage`; None if it was not made yet, or is damaged.

        Writes nothing: a damaged one is named, and set aside by `obtain`.
        """
        return self.find_made(stage.kind, digest(stage.key))

    def find_made(self, kind: StageKind, fingerprint: str) -> Artifact | None:
        """As `find`, by the fingerprint that a run has written down."""
        folder = self.path / kind.value / fingerprint
        try:
            return self._take(folder, cached=True)
        except DamagedError as error:
            if folder not in self._warned:
                log.warning("%s is damaged: %s; it counts as missing", folder, error)
            self._warned.add(folder)
            return None

    def obtain(self, stage: Stage[object]) -> Artifact:
        """Take the artefact of `stage`, or let it produce one.

        `produce` starts in an empty folder; where the stage is resumable it finds there what an
        interrupted attempt left, in addition to hidden notes of the store. Nothing becomes visible
        unless it returns. UserError if the store's folders are not folders or not readable;
        SystemExit if a signal came while the stage before could not end.
        """
        kind, key, scratch = stage.kind.value, stage.key, stage.scratch
        folder = self.path / kind / digest(key)
        if found := self._take_sound(folder):
            return found
        with disk_may_be_full(self.path, _IF_FULL), hold_lock(folder):
            if found := self._take_sound(folder, clear_way=True):
                return found
            end_if_asked()
            unfinished = self._open_unfinished(folder, resumable=stage.resumable)
            # A kill between the seal and the publishing costs nothing.
            if not is_sealed(unfinished):
                effort = run_attempt(
                    unfinished, stage.produce, resumable=stage.resumable, scratch=scratch
                )
                seal(unfinished, kind, key, effort, scratch)
            publish(unfinished, folder, scratch)
            # Its sums were taken a moment ago.
            self._compared[folder] = _state(folder)
            # Still under the lock, or it might be pruned before it is held.
            made = self._take(folder, cached=False)
        assert made is not None
        return made

    def artifacts(self) -> list[Artifact]:
        """Everything in the store that can be taken, oldest first; its files are not compared."""
        dated: list[tuple[float, Artifact]] = []
        for folder in self.folders(""):
            # It may be damaged, or just being pruned.
            with suppress(DamagedError, OSError):
                manifest = read_manifest(folder)
                dated.append((folder.stat().st_mtime, _artifact(folder, manifest, cached=True)))
        return [artifact for _, artifact in sorted(dated, key=lambda pair: pair[0])]

    def folders(self, prefix: str) -> list[Path]:
        """Folders of all stages that are named `prefix` and an artefact; nothing else is ours."""
        found = sorted(self.path.glob(f"[!.]*/{prefix}*"))
        names = re.compile(re.escape(prefix) + _FINGERPRINT.pattern)
        return [path for path in found if names.fullmatch(path.name)]

    def damaged(self) -> list[Path]:
        """Damaged artefacts that were set aside."""
        return sorted(self.path.glob(f"{DAMAGED}/*/*"))

    def _take_sound(self, folder: Path, *, clear_way: bool = False) -> Artifact | None:
        """The artefact where it is as it was written; `clear_way` moves a damaged one aside."""
        try:
            return self._take(folder, cached=True)
        except DamagedError as error:
            if clear_way:
                self._set_aside(folder, str(error))
            return None

    def _take(self, folder: Path, *, cached: bool) -> Artifact | None:
        """Hold and compare; None if there is none, DamagedError if it was changed."""
        try:
            self._read_locks.take(folder)
            manifest = read_manifest(folder)
            self._compare(folder, manifest.files)
        except PermissionError as error:
            raise UserError(
                f"{folder} cannot be read: {error.strerror}; give yourself the right to, or name "
                "another folder as store.path"
            ) from error
        except (DamagedError, OSError) as error:
            self._read_locks.leave(folder)
            if not is_there(folder):
                return None
            if isinstance(error, DamagedError):
                raise
            missing = isinstance(error, FileNotFoundError)
            problem = "is missing" if missing else f"cannot be read ({error.strerror})"
            raise DamagedError(f"{MANIFEST} {problem}") from error
        return _artifact(folder, manifest, cached=cached)

    def _compare(self, folder: Path, files: Mapping[str, FileSum]) -> None:
        state = _state(folder)
        if state is not None and state == self._compared.get(folder):
            return
        if problem := find_change(folder, files):
            raise DamagedError(problem)
        if extra := set(list_files(folder)) - {MANIFEST, *files}:
            raise DamagedError(f"{min(extra)} does not belong to it")
        self._compared[folder] = state

    def _set_aside(self, path: Path, problem: str) -> None:
        name = path.name.lstrip(".")
        try:
            target = move_aside(path, self.path / DAMAGED / path.parent.name, name)
        except OSError as error:
            raise UserError(
                f"{path} is damaged ({problem}) and cannot be moved out of the way: "
                f"{error.strerror or error}; remove it"
            ) from error
        known = ":" if path in self._warned else f" is damaged: {problem};"
        log.warning("%s%s it is moved to %s and made again", path, known, target)

    def _open_unfinished(self, folder: Path, *, resumable: bool) -> Path:
        unfinished = folder.with_name(f"{UNFINISHED}{folder.name}")
        if is_there(unfinished) and not unfinished.is_dir():
            self._set_aside(unfinished, "it is not a folder")
        if not resumable:
            remove(unfinished)
        try:
            make_folder(unfinished)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(
                f"{folder.parent} is not a folder, or a broken link; remove it, or name "
                "another folder as store.path"
            ) from error
        return unfinished


def _artifact(folder: Path, manifest: Manifest, *, cached: bool) -> Artifact:
    return Artifact(
        stage=manifest.stage,
        fingerprint=manifest.fingerprint,
        folder=folder,
        cached=cached,
        seconds=manifest.seconds,
        peak_memory_bytes=manifest.peak_memory_bytes,
        files=manifest.files,
        tokens=manifest.tokens,
        key=manifest.key,
    )


def _state(folder: Path) -> State | None:
    """Each file's status, without reading the file; None if one is missing."""
    state: dict[str, tuple[int, ...]] = {}
    for name in list_files(folder):
        try:
            found = (folder / name).stat()
        except OSError:
            return None
        state[name] = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return state

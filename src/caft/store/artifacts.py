"""Stage outputs by fingerprint: written to a side folder, made durable, then renamed into place."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from caft.errors import UserError
from caft.exit_status import end_if_asked
from caft.store.durable import make_durable
from caft.store.fingerprint import digest, plain
from caft.store.full_disk import disk_may_be_full
from caft.store.measure import Effort, measured

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished-"
_ATTEMPT = ".attempt"
_WHERE_THERE_IS_NO_ROOM = (
    "make room there, or move the store and set store.path, and run the same command again (a "
    "stage that keeps checkpoints goes on from its last one)"
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished stage's folder.

    `seconds` are those of every attempt at it, each up to the last thing that it kept;
    `peak_memory_bytes` is that of the attempt that finished it.
    """

    stage: str
    fingerprint: str
    folder: Path
    cached: bool
    seconds: float
    peak_memory_bytes: int


class Store:
    """A folder of artefacts, one subfolder a stage, shared by every run and every job."""

    def __init__(self, path: Path, *, reads_only: bool = False) -> None:
        """Open or create the store; UserError where its folder cannot be written.

        One that `reads_only` is not created: where there is none, nothing is found in it.
        """
        self.path = path.absolute()
        if reads_only:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"store.path is {path}: {error.strerror}; name a folder that can be written"
            ) from error
        if not os.access(self.path, os.W_OK):
            raise UserError(f"store.path is {path}: not writable; name a folder that is")

    @property
    def ledger_path(self) -> Path:
        """The one file of teacher replies that were paid for."""
        return self.path / "ledger.sqlite"

    def find(self, stage: str, key: Mapping[str, Any]) -> Artifact | None:
        """The artefact of `stage` for `key`, or None where nobody has made it."""
        return self._read(stage, digest(key), cached=True)

    def obtain(
        self,
        stage: str,
        key: Mapping[str, Any],
        produce: Callable[[Path], None],
        *,
        resumable: bool = False,
    ) -> Artifact:
        """Take the artefact or make it with `produce(folder)`.

        `produce` starts in an empty folder; with `resumable` it finds there what an interrupted
        attempt left, beside a hidden note of the store's. Nothing becomes visible unless `produce`
        returns. Raises SystemExit where a signal came while the stage before could not end.
        """
        fingerprint = digest(key)
        found = self._read(stage, fingerprint, cached=True)
        if found:
            return found
        with self._lock(stage, fingerprint):
            found = self._read(stage, fingerprint, cached=True)
            if found:
                return found
            end_if_asked()
            unfinished = self.path / stage / f"{UNFINISHED}{fingerprint}"
            if not resumable:
                shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True, exist_ok=True)
            with measured() as effort, disk_may_be_full(unfinished, _WHERE_THERE_IS_NO_ROOM):
                earlier = _begin_attempt(unfinished) if resumable else 0.0
                produce(unfinished)
            effort.seconds += earlier
            (unfinished / _ATTEMPT).unlink(missing_ok=True)
            _write_manifest(unfinished, stage, key, effort)
            self._publish(unfinished, self.path / stage / fingerprint)
        made = self._read(stage, fingerprint, cached=False)
        assert made is not None
        return made

    def artifacts(self) -> list[Artifact]:
        """Everything in the store, oldest first."""
        folders = [path.parent for path in self.path.glob(f"*/*/{MANIFEST}")]
        folders = [folder for folder in folders if not folder.name.startswith(".")]
        found = [self._read(folder.parent.name, folder.name, cached=True) for folder in folders]
        kept = [artifact for artifact in found if artifact]
        return sorted(kept, key=lambda artifact: artifact.folder.stat().st_mtime)

    def unfinished(self) -> list[Path]:
        """Folders of work that was interrupted, checkpoints and all."""
        return sorted(self.path.glob(f"*/{UNFINISHED}*"))

    def _read(self, stage: str, fingerprint: str, *, cached: bool) -> Artifact | None:
        folder = self.path / stage / fingerprint
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Artifact(
            stage, fingerprint, folder, cached, manifest["seconds"], manifest["peak_memory_bytes"]
        )

    @contextmanager
    def _lock(self, stage: str, fingerprint: str) -> Iterator[None]:
        locks = self.path / "locks"
        locks.mkdir(exist_ok=True)
        # The system frees the lock of a process that dies, so a killed job blocks nobody.
        lock = FileLock(locks / f"{stage}-{fingerprint}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another job is making %s %s; waiting for it", stage, fingerprint)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _publish(self, unfinished: Path, folder: Path) -> None:
        for path in [*unfinished.rglob("*"), unfinished]:
            make_durable(path)
        unfinished.rename(folder)
        make_durable(folder.parent)


def _begin_attempt(folder: Path) -> float:
    """The seconds of earlier attempts, which are noted with the moment that this one begins.

    An attempt may have been killed: it lasted, as far as it counts, until its last write.
    """
    note = folder / _ATTEMPT
    earlier = 0.0
    if note.exists():
        last = max(path.stat().st_mtime for path in folder.rglob("*"))
        earlier = float(note.read_text(encoding="utf-8") or 0) + last - note.stat().st_mtime
    note.write_text(str(earlier), encoding="utf-8")
    return earlier


def _write_manifest(folder: Path, stage: str, key: Mapping[str, Any], effort: Effort) -> None:
    manifest = {
        "stage": stage,
        "fingerprint": digest(key),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": effort.seconds,
        "peak_memory_bytes": effort.peak_memory_bytes,
        "key": plain(key),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")

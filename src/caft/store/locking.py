"""One process at a time makes an artefact, or takes it away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from caft.errors import UserError
from caft.store.full_disk import disk_may_be_full

log = logging.getLogger(__name__)


@contextmanager
def hold_lock(folder: Path, stage: str, fingerprint: str) -> Iterator[None]:
    """Wait for the lock of an artefact; UserError where the store can have none."""
    lock = _open_lock(folder, stage, fingerprint)
    if not _acquire(lock, wait=False):
        log.info("another job is making %s %s; waiting for it", stage, fingerprint)
        _acquire(lock, wait=True)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_lock(folder: Path, stage: str, fingerprint: str) -> Iterator[bool]:
    """Whether the lock was free; it is held for the body then."""
    lock = _open_lock(folder, stage, fingerprint)
    got = _acquire(lock, wait=False)
    try:
        yield got
    finally:
        lock.release()


def _open_lock(folder: Path, stage: str, fingerprint: str) -> FileLock:
    try:
        with disk_may_be_full(folder, "make room there"):
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _refusal(folder, error.strerror) from error
    # The system frees the lock of a process that dies, so a killed job blocks nobody.
    return FileLock(folder / f"{stage}-{fingerprint}.lock")


def _acquire(lock: FileLock, *, wait: bool) -> bool:
    try:
        with disk_may_be_full(Path(lock.lock_file).parent, "make room there"):
            lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        raise _refusal(Path(lock.lock_file), getattr(error, "strerror", None)) from error
    return True


def _refusal(path: Path, reason: str | None) -> UserError:
    return UserError(
        f"{path} cannot be used as a lock: {reason or 'the file system has none'}; remove it, or "
        "name another folder as store.path"
    )

"""Locks on artefacts: one process at a time makes or removes one, and readers keep it in place.

Both are the system's, which frees them with the process that held them. On a shared file system its
server keeps them for all hosts, and frees those of a host that died: nobody else has to judge
whether a holder is alive, so nobody can be robbed. Readers share a lock on the manifest: nothing is
written for it, and work continues if a file system has no locks.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from caft.errors import UserError
from caft.mounts import Mount, find_mount
from caft.store.disk import disk_may_be_full
from caft.store.manifest import MANIFEST, UNFINISHED

log = logging.getLogger(__name__)
_FOLDER = "locks"


@contextmanager
def hold_lock(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of the artefact `folder`; without `wait`, False where another process does.

    UserError if its store can have no locks.
    """
    stage, fingerprint = folder.parent.name, folder.name.removeprefix(UNFINISHED)
    lock = FileLock(folder.parents[1] / _FOLDER / f"{stage}-{fingerprint}.lock")
    note = Path(lock.lock_file).with_suffix(".holder")
    _acquire(lock, timeout=0)
    if wait and not lock.is_locked:
        log.info("%s is making %s %s; waiting for it", read_holder(note), stage, fingerprint)
        _acquire(lock, timeout=-1)
    if lock.is_locked:
        _note_holder(note)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def read_holder(note: Path) -> str:
    """Who holds a lock, and what ends it if it should not; for messages alone."""
    try:
        host, pid, since = note.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return "another job"
    return f"a job on {host} (process {pid}, since {since}; `kill {pid}` there ends it)"


def _note_holder(note: Path) -> None:
    # Without the note only a message says less.
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with suppress(OSError):
        note.write_text(f"{socket.gethostname()} {os.getpid()} {since}\n", encoding="utf-8")


def warn_of_local_locks(store: Path, mounts: Iterable[Mount] | None = None) -> None:
    """Warn if other hosts may share the store's file system, and its locks hold on this one alone.

    `mounts` are those of this host by default.
    """
    mount = find_mount(store, mounts)
    if mount.is_network and mount.local_locks:
        by_type = mount.local_locks == mount.kind
        log.warning(
            "store.path is %s, on %s%s, so its locks hold on this host alone: let no other host "
            "use it at the same time, or %s",
            store, mount.kind, "" if by_type else f" that is mounted with {mount.local_locks}",
            "take another file system" if by_type else "mount it without that option",
        )  # fmt: skip


def _acquire(lock: FileLock, *, timeout: float) -> None:
    path = Path(lock.lock_file)
    try:
        with disk_may_be_full(path.parent, "make room there"), suppress(Timeout):
            path.parent.mkdir(exist_ok=True)
            lock.acquire(timeout=timeout)
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or "the file system has none"
        read_only = getattr(error, "errno", None) == errno.EROFS
        remedy = "mount it writable" if read_only else "remove it"
        wrong = path if path.parent.is_dir() else path.parent
        raise UserError(
            f"{wrong} cannot be used as a lock: {reason}; {remedy}, or name another folder as "
            "store.path"
        ) from error


class ReadLocks:
    """The artefacts that one run has taken, kept from being pruned while this object lives."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}
        weakref.finalize(self, _release_all, self._held)

    def take(self, folder: Path) -> None:
        """Hold `folder`; FileNotFoundError if it has no manifest, or is just being pruned."""
        path = folder / MANIFEST
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # File systems without locks raise here.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            # Pruning renames first: the opened file may have been moved by now.
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise FileNotFoundError(path)
        except BaseException:
            os.close(descriptor)
            raise
        # Only now: between two holds it could be pruned.
        self.leave(folder)
        self._held[folder] = descriptor

    def leave(self, folder: Path) -> None:
        """Stop holding `folder`, where it is held."""
        descriptor = self._held.pop(folder, None)
        if descriptor is not None:
            os.close(descriptor)


def _release_all(held: dict[Path, int]) -> None:
    for descriptor in held.values():
        os.close(descriptor)
    held.clear()


@contextmanager
def without_readers(folder: Path) -> Iterator[bool]:
    """Whether no process reads the artefact in `folder`; in the body none can begin to."""
    descriptor = _open(folder / MANIFEST)
    try:
        yield descriptor is None or _lock_alone(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: Path) -> int | None:
    # Network disks lock files exclusively only if they are open for writing. Without a manifest no
    # process reads it.
    for mode in (os.O_RDWR, os.O_RDONLY):
        with suppress(OSError):
            return os.open(path, mode)
    return None


def _lock_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the second is what some network disks raise
        return False
    except OSError:
        return True
    return True

"""Whoever reads an artefact keeps it from being pruned, until the reading process ends.

A shared lock of the system's on the manifest: nothing is written for it, a process that dies
leaves none behind, and where a file system knows no locks work goes on without.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caft.store.manifest import MANIFEST


class Uses:
    """The artefacts that one run has taken, held for as long as this object lives."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}
        weakref.finalize(self, _release_all, self._held)

    def take(self, folder: Path) -> None:
        """Hold `folder`; FileNotFoundError where it has no manifest, or is just being pruned."""
        path = folder / MANIFEST
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # File systems without locks raise here.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            # Whoever prunes renames first: what was opened may be gone from its place by now.
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


@contextmanager
def alone_with(folder: Path) -> Iterator[bool]:
    """Whether nobody uses the artefact in `folder`; nor can anybody begin to in the body."""
    descriptor = _open(folder / MANIFEST)
    try:
        yield descriptor is None or _lock_alone(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: Path) -> int | None:
    # Network disks lock nothing exclusively that is only read. Without a manifest nobody has it.
    for mode in (os.O_RDWR, os.O_RDONLY):
        with suppress(OSError):
            return os.open(path, mode)
    return None


def _lock_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        # The second is how some network disks say it.
        return False
    except OSError:
        return True
    return True


def _release_all(held: dict[Path, int]) -> None:
    for descriptor in held.values():
        os.close(descriptor)
    held.clear()

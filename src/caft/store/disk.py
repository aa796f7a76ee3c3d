"""Writing and removing on disks that lose power, are full, or hold broken links."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from caft.errors import UserError

# No space, a quota that is used up, a file that grew too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_VANISHED = (errno.ENOENT, errno.ESTALE, errno.ENOTCONN)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_TEMPORARY_FOLDER = "No usable temporary directory"


def is_there(path: Path) -> bool:
    """Whether anything has that name, a broken link included."""
    return os.path.lexists(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its contents, if there is one."""
    while path.is_dir() and not path.is_symlink():
        # Another process may be removing it, too, and be faster: on another host, that is ESTALE.
        try:
            shutil.rmtree(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
    path.unlink(missing_ok=True)


def remove_closed(path: Path) -> None:
    """Remove `path`; of files that are still open somewhere NFS keeps a hidden one, .nfs*."""
    try:
        remove(path)
    except OSError as error:
        left = [each for each in path.rglob("*") if not each.is_dir()]
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY) or not left:
            raise
        if not all(each.name.startswith(".nfs") for each in left):
            raise


def move_aside(path: Path, folder: Path, name: str) -> Path:
    """Move `path` into `folder` as `name`, with a number where that is taken; its new place."""
    folder.mkdir(parents=True, exist_ok=True)
    number, target = 1, folder / name
    while is_there(target):
        number += 1
        target = folder / f"{name}-{number}"
    # A stage's folder may be on another disk, where renaming fails.
    shutil.move(path, target)
    # It is as old as the move: what was set aside today is not pruned today.
    os.utime(target, follow_symlinks=False)
    return target


def make_durable(path: Path) -> None:
    """Wait until a file's contents, or a folder's list of names, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_all_durable(folder: Path) -> None:
    """As `make_durable`, of a folder and everything in it."""
    for path in [*sorted(folder.rglob("*")), folder]:
        make_durable(path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing; a power loss takes no name of them."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        # A folder may be one that is used and not listed.
        with suppress(PermissionError):
            make_durable(each.parent)


def write_durably(path: Path, text: str) -> None:
    """Write a whole file or none: under another name first, made durable, then renamed."""
    fresh = path.with_name(f".{path.name}")
    remove(fresh)
    try:
        fresh.write_text(text, encoding="utf-8")
        make_durable(fresh)
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    make_durable(path.parent)


@contextmanager
def disk_may_be_full(folder: Path, advice: str) -> Iterator[None]:
    """UserError with `advice` if `folder` is full in the body; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f"what was made cannot be written to {folder}: {os.strerror(error.errno)}; {advice}"
        ) from error


def explain_refusal(error: OSError, folders: Mapping[str, Path]) -> str | None:
    """One line for a write that the system refused, wherever it was; None for any other error.

    A folder that vanished under a run refuses them, too.

    `folders` are those that a run writes to, by the setting that moves each.
    """
    if _NO_TEMPORARY_FOLDER in str(error):
        return "no folder for temporary files can be written; set TMPDIR to one that can"
    path = Path(os.fsdecode(error.filename)).absolute() if error.filename else None
    # Path's own raises for the home of a user that is not there.
    whole = {name: Path(os.path.expanduser(each)).absolute() for name, each in folders.items()}
    around = {
        name: folder
        for name, folder in whole.items()
        # pyarrow and safetensors name the file in their text only.
        if (path.is_relative_to(folder) if path else f"{folder}{os.sep}" in str(error))
    }
    vanished = error.errno in _VANISHED or isinstance(error, FileNotFoundError)
    for name, folder in around.items():
        if vanished and not folder.exists():
            return (
                f"{folder} is gone: it was removed or unmounted during the run; bring it back, or "
                f"set {name} to another folder, and run the same command again"
            )
    if error.errno not in (*_FULL, *_FORBIDDEN):
        return None
    # An error of an open file does not name the file.
    where = path or ", ".join(str(folder) for folder in folders.values())
    problem, advice = ("written", "make room there")
    if error.errno not in _FULL:
        problem, advice = ("used", "allow that")
    return (
        f"{where} cannot be {problem}: {os.strerror(error.errno)}; {advice}, or set "
        f"{' or '.join(around or folders)} to another folder, and run the same command again "
        "(finished stages are kept)"
    )

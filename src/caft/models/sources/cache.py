"""The cache folder of exported and generated models, each written once."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from caft.errors import UserError
from caft.sums import find_changed, write_sums

_PART = ".part"

log = logging.getLogger(__name__)


def cache_folder(chosen: str | None) -> Path:
    """`model.cache`, else `$CAFT_CACHE`, else `caft` in the user's cache folder.

    UserError for a name that no folder can have, or that a tokenizer's files could not be written
    below: what writes them takes UTF-8 only.
    """
    named = chosen or os.environ.get("CAFT_CACHE")
    given = named or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(given).expanduser().absolute()
        str(folder).encode()
    except (RuntimeError, UnicodeEncodeError) as error:
        raise UserError(
            f"the cache of models cannot be in {given!r} ({error}); set model.cache or CAFT_CACHE "
            "to the whole path of a folder"
        ) from error
    return folder if named else folder / "caft"


def write_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build` unless it is there already as `build` left it.

    `build` gets an empty folder next to it, which is renamed when it is complete, so that `folder`
    is never seen in part. Its files are compared with their SHA-256 from then on, and it is built
    again where one has changed. Jobs that need it at the same time wait for the first. Leftovers of
    failed and killed builds are removed. UserError if the cache cannot be read or written.
    """
    from filelock import FileLock

    from caft.models.adapters import disk_errors_as_such

    try:
        if folder.is_dir() and find_changed(folder) is None:
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"), disk_errors_as_such():
            if folder.is_dir() and (changed := find_changed(folder)):
                log.warning("%s is not what was written there: it is made again", changed)
                shutil.rmtree(folder)
            if not folder.is_dir():
                _remove_left_over(folder.parent)
                _build_and_rename(folder, build)
    except OSError as error:
        raise UserError(
            f"cannot keep a model in {folder.parent} ({error.strerror or error}); "
            "make room there, or set model.cache or CAFT_CACHE to a folder that can be written"
        ) from error
    return folder


def _build_and_rename(folder: Path, build: Callable[[Path], None]) -> None:
    # Under the lock no other job builds: an existing part was left by a killed job.
    part = folder.with_name(f"{folder.name}{_PART}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        build(part)
        write_sums(part, [path.name for path in part.iterdir()])
        for path in (*part.iterdir(), part):  # the folder's list of names, too
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        part.rename(folder)
    except BaseException:  # or half a gigabyte would stay there unnoticed
        shutil.rmtree(part, ignore_errors=True)
        raise


def _remove_left_over(cache: Path) -> None:
    """Remove parts whose builders were killed."""
    from filelock import FileLock, Timeout

    for part in cache.glob(f"*{_PART}"):
        # A job that still builds holds the lock.
        with (
            suppress(Timeout, OSError),
            FileLock(f"{str(part).removesuffix(_PART)}.lock", timeout=0),
        ):
            shutil.rmtree(part, ignore_errors=True)

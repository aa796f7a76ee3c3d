"""A disk without room, or that may not be written, is the user's to solve, and said as such."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from caft.errors import UserError

# No room, a quota that is used up, a file that grew too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER_FOR_PASSING_FILES = "No usable temporary directory"


@contextmanager
def disk_may_be_full(folder: Path, advice: str) -> Iterator[None]:
    """UserError with `advice` where what is done inside finds no room in `folder`.

    Any other error passes as it is.
    """
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

    `folders` are those that a run writes to, by the setting that moves each.
    """
    if _NO_FOLDER_FOR_PASSING_FILES in str(error):
        return "no folder for temporary files can be written; set TMPDIR to one that can"
    if error.errno not in (*_FULL, *_FORBIDDEN):
        return None
    named = Path(os.fsdecode(error.filename)).absolute() if error.filename else None
    settings = [name for name, folder in folders.items() if named and _lies_in(named, folder)]
    # An open file that no longer takes anything does not say where it lies.
    where = named or ", ".join(str(folder) for folder in folders.values())
    full = error.errno in _FULL
    return (
        f"{where} cannot be {'written' if full else 'used'}: {os.strerror(error.errno)}; "
        f"{'make room there' if full else 'allow that'}, or set "
        f"{' or '.join(settings or folders)} to another folder, and run the same command again "
        "(finished stages are kept)"
    )


def _lies_in(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder.expanduser().absolute())

"""Why a ledger cannot be used, and what helps against that very cause. Pure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_ELSEWHERE = "or give another store.path"
_HELP = {
    "SQLITE_FULL": "its disk is full: make room there",
    "SQLITE_BUSY": "another process has locked it for a minute: wait for it, or end it",
    "SQLITE_LOCKED": "another process has locked it for a minute: wait for it, or end it",
    "SQLITE_CORRUPT": "it is damaged: put a backup in its place, or save what can be read with "
    "`sqlite3 {name} .recover | sqlite3 mended.sqlite`",
    "SQLITE_NOTADB": "it is damaged, or no ledger at all: put a backup in its place",
    "SQLITE_FORMAT": "it is damaged, or no ledger at all: put a backup in its place",
    "SQLITE_SCHEMA": "it is no ledger of ours: put a backup in its place",
    "SQLITE_ERROR": "it lacks what a ledger has, or is of another program: put a backup in its "
    "place",
    "SQLITE_IOERR": "its disk cannot be read or written: look at the disk, and keep the store on a "
    "local one",
    "SQLITE_PROTOCOL": "its file system has no locks that work: keep the store on a local disk",
    "SQLITE_NOLFS": "its file system takes no file of that size: keep the store on another disk",
    "SQLITE_TOOBIG": "a row is larger than SQLite takes: this is a fault of ours, please report it",
    "SQLITE_CONSTRAINT": "a row does not fit into it: this is a fault of ours, please report it",
    "SQLITE_MISMATCH": "a number does not fit into it: this is a fault of ours, please report it",
    "SQLITE_CANTOPEN": "make its folder writable",
    "SQLITE_READONLY": "make its folder writable, and the file, too",
    "SQLITE_PERM": "make its folder writable",
    "SQLITE_AUTH": "make its folder writable",
}
_IN_THE_WAY = "its folder cannot be made there: move what stands in its way"
_OF_SYSTEM = {
    errno.ENOSPC: _HELP["SQLITE_FULL"],
    errno.EDQUOT: _HELP["SQLITE_FULL"],
    errno.EFBIG: _HELP["SQLITE_FULL"],
    errno.EROFS: "its file system is mounted read-only: mount it writable",
    errno.EACCES: _HELP["SQLITE_PERM"],
    errno.EPERM: _HELP["SQLITE_PERM"],
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENAMETOOLONG: _IN_THE_WAY,
}


def explain_error(path: Path, error: Exception, row: str = "") -> str:
    """One line: the ledger, what was said, the cause and what helps. `row` is what was written."""
    doing = f" while {row} was written" if row else ""
    said = " ".join(str(error).split())
    help_ = _find_help(error).format(name=path.name)
    return f"the teacher's ledger {path} cannot be used ({said}){doing}: {help_}, {_ELSEWHERE}"


def _find_help(error: Exception) -> str:
    if isinstance(error, OSError):
        otherwise = f"the system says {os.strerror(error.errno or errno.EIO)}: look at the disk"
        return _OF_SYSTEM.get(error.errno or 0, otherwise)
    name = getattr(error, "sqlite_errorname", None)
    if name is None:  # Python's own, of a value that SQLite has no place for
        return _HELP["SQLITE_MISMATCH"]
    # Extended names tell more than we do: SQLITE_READONLY_DIRECTORY, SQLITE_IOERR_WRITE.
    return _HELP.get("_".join(name.split("_")[:2]), _HELP["SQLITE_ERROR"])

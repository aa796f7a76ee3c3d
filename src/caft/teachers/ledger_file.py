"""The file of a ledger: its tables, how it is opened, its reply count, and its errors."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from caft.errors import UserError

_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, endpoint TEXT NOT NULL, attempt INTEGER NOT NULL,
    request TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    usage_estimated INTEGER NOT NULL, usd REAL NOT NULL, seconds REAL NOT NULL,
    arrived REAL NOT NULL, reasoning TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_by_model ON replies (model, prompt_tokens, completion_tokens);
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, owner TEXT NOT NULL, machine TEXT NOT NULL,
    pid INTEGER NOT NULL, expires REAL NOT NULL, reserved_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    model TEXT PRIMARY KEY, calls INTEGER NOT NULL, usd REAL NOT NULL, unsure_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, unsure_usd REAL NOT NULL,
    at REAL NOT NULL
);
"""

_REMEDIES = {
    "its disk is full: make room there": "FULL ENOSPC EDQUOT EFBIG",
    "another process has locked it for a minute: wait for it, or end it": "BUSY LOCKED",
    "it is damaged: put a backup in its place, or save what can be read with "
    "`sqlite3 {name} .recover | sqlite3 repaired.sqlite`": "CORRUPT",
    "it is damaged, or no ledger at all: put a backup in its place": "NOTADB FORMAT",
    "it lacks the tables of a ledger: put a backup in its place": "SCHEMA",
    "its disk cannot be read or written: check the disk, and keep the store on a local "
    "one": "IOERR",
    "its file system has no locks that work: keep the store on a local disk": "PROTOCOL",
    "its file system does not allow a file of that size: keep the store on another disk": "NOLFS",
    "its file system is mounted read-only: mount it writable": "EROFS",
    "a row is larger than SQLite allows: this is a bug in CAFT, please report it": "TOOBIG",
    "a row does not fit into it: this is a bug in CAFT, please report it": "CONSTRAINT",
    "a number does not fit into it: this is a bug in CAFT, please report it": "MISMATCH",
    "make its folder writable": "CANTOPEN PERM AUTH EACCES EPERM",
    "make its folder writable, and the file, too": "READONLY",
    "its folder cannot be made there: move what is in its way": "ENOTDIR EEXIST ENAMETOOLONG",
}
_REMEDY_FOR = {name: remedy for remedy, names in _REMEDIES.items() for name in names.split()}


# Opening


def open_ledger(path: Path, *, reads_only: bool) -> sqlite3.Connection:
    """The database with its tables. UserError if a newer version of CAFT wrote it."""
    database = _open_to_read(path) if reads_only else _open_to_write(path)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise UserError(
            f"the teacher's ledger {path} was written by a newer CAFT (version {version}, this "
            f"one reads {_VERSION}); update CAFT or give another store.path"
        )
    if version < _VERSION and not (reads_only and version):
        _bring_up_to_date(database)
    return database


def _bring_up_to_date(database: sqlite3.Connection) -> None:
    """Make the tables, or add what version 1 lacks. Another process may be doing it just now."""
    database.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        database.execute(statement)
    if not knows_reasoning(database):
        database.execute("ALTER TABLE replies ADD COLUMN reasoning TEXT")
    database.execute(f"PRAGMA user_version={_VERSION}")
    database.execute("COMMIT")


def knows_reasoning(database: sqlite3.Connection) -> bool:
    """Whether the replies have a column for reasoning: version 1, if only read, has none."""
    columns = database.execute("PRAGMA table_info(replies)").fetchall()
    return any(name == "reasoning" for _, name, *_ in columns)


def _open_to_write(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite would make it writable for its owner only; a shared store follows the umask.
    if not path.exists():
        path.touch()
    database = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
    _start_log(database)
    database.execute("PRAGMA synchronous=FULL")
    return database


def _start_log(database: sqlite3.Connection) -> None:
    # The only statement that does not wait for another process that opens the file just now.
    patience = time.monotonic() + 60.0
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > patience:
                raise
            time.sleep(0.01)


def _open_to_read(path: Path) -> sqlite3.Connection:
    if not path.stat().st_size:  # a run that has just begun, or was killed then
        return sqlite3.connect(":memory:", isolation_level=None)
    # Without a log next to it no process is writing. Else its files exist, and need not be made.
    quiet = not path.with_name(f"{path.name}-wal").exists()
    address = f"{path.absolute().as_uri()}?{'immutable=1' if quiet else 'mode=ro'}"
    return sqlite3.connect(address, uri=True, timeout=60.0, isolation_level=None)


# The count of replies, in a file next to the ledger. An empty file is an empty database, and a
# missing one is created: without this count, a user who lost a ledger would pay for everything
# again without a warning.


def _count_file(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.count")


def read_noted_count(ledger: Path) -> int:
    """How many replies the ledger had at least; 0 if none were noted."""
    try:
        count = json.loads(_count_file(ledger).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    return count if isinstance(count, int) else 0


def note_count(ledger: Path, count: int) -> None:
    """Note that the ledger has `count` replies; the noted number never falls.

    If it cannot be noted, nothing fails: only a later warning is missing.
    """
    if count > read_noted_count(ledger):
        fresh = _count_file(ledger).with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            fresh.write_text(f"{count}\n", encoding="utf-8")
            fresh.replace(_count_file(ledger))


def refuse_lost_replies(ledger: Path, noted: int, count: int) -> None:
    """UserError if a ledger with `count` replies had some and has none left.

    `noted` is to be read before `count` is: another process may be writing the first replies.
    """
    if noted and not count:
        state = "empty" if ledger.exists() else "missing"
        raise UserError(
            f"the teacher's ledger {ledger} is {state}, and had {noted} replies: put it back from "
            f"a backup, or, to pay for them again, remove {_count_file(ledger)}"
        )


# Errors


def explain_error(path: Path, error: Exception, row: str = "") -> str:
    """One line: the ledger, the error, its cause and what helps. `row` names what was written."""
    doing = f" while {row} was written" if row else ""
    text = " ".join(str(error).split())
    remedy = _find_remedy(error).format(name=path.name)
    return (
        f"the teacher's ledger {path} cannot be used ({text}){doing}: {remedy}, or give another "
        "store.path"
    )


def _find_remedy(error: Exception) -> str:
    if isinstance(error, OSError):
        number = error.errno or errno.EIO
        otherwise = f"the system reports {os.strerror(number)}: check the disk"
        return _REMEDY_FOR.get(errno.errorcode.get(number, ""), otherwise)
    # Python's own errors, of a value that SQLite cannot store, have no name. Extended names are
    # more specific than needed: SQLITE_READONLY_DIRECTORY, SQLITE_IOERR_WRITE.
    name = getattr(error, "sqlite_errorname", "SQLITE_MISMATCH")
    return _REMEDY_FOR.get(name.split("_")[1], _REMEDY_FOR["SCHEMA"])

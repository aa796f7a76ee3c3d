"""A ledger in a file of SQLite, on this machine's disk: its tables, reply count and errors."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from caft.errors import UserError, count_of
from caft.mounts import Mount, find_mount
from caft.teachers.ledger.migrations import VERSION, bring_up_to_date

T = TypeVar("T")
# Version 1: the others are made from it by migrations.
_SCHEMA = """
CREATE TABLE replies (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, endpoint TEXT NOT NULL, attempt INTEGER NOT NULL,
    request TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    usage_estimated INTEGER NOT NULL, usd REAL NOT NULL, seconds REAL NOT NULL,
    arrived REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX replies_by_model ON replies (model, prompt_tokens, completion_tokens);
CREATE TABLE claims (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, owner TEXT NOT NULL, machine TEXT NOT NULL,
    pid INTEGER NOT NULL, expires REAL NOT NULL, reserved_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE spending (
    model TEXT PRIMARY KEY, calls INTEGER NOT NULL, usd REAL NOT NULL, unsure_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE failures (
    key TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, unsure_usd REAL NOT NULL,
    at REAL NOT NULL
);
"""

_REMEDIES = {
    "its disk is full: make room there": "FULL ENOSPC EDQUOT EFBIG",
    "another process has locked it for a minute: wait for it, or end it": "BUSY LOCKED",
    "it is damaged: put a backup in its place, or save what can be read with "
    "`sqlite3 {file} .recover | sqlite3 {repaired}` (another build of sqlite3, where that one says "
    "SQL logic error)": "CORRUPT",
    "it is damaged, or no ledger at all: put a backup in its place": "NOTADB FORMAT",
    "it lacks the tables of a ledger: put a backup in its place": "SCHEMA",
    "its disk cannot be read or written: check the disk, and keep the ledger on a local "
    "one": "IOERR",
    "its file system has no locks that work: keep the ledger on a local disk": "PROTOCOL",
    "its file system does not allow a file of that size: keep the store on another disk": "NOLFS",
    "its file system is mounted read-only: mount it writable": "EROFS",
    "a row is larger than SQLite allows: this is a bug in CAFT, please report it": "TOOBIG",
    "a row does not fit into it: this is a bug in CAFT, please report it": "CONSTRAINT",
    "a number does not fit into it: this is a bug in CAFT, please report it": "MISMATCH",
    "make its folder writable": "CANTOPEN PERM AUTH EACCES EPERM",
    "make its folder writable, and the file, too": "READONLY",
    "it is a folder: name a file in it": "EISDIR",
    "its folder cannot be made there: move what is in its way": "ENOTDIR EEXIST ENAMETOOLONG",
}
_REMEDY_FOR = {name: remedy for remedy, names in _REMEDIES.items() for name in names.split()}


class SqliteDatabase:
    """The ledger at `path`, with a write-ahead log and a sync to disk at every commit.

    An empty one in memory where `path` is None, or where there is no file and it `reads_only`.
    """

    # The machine's clock is the database's: a file on a local disk has no other users.
    clock = "((julianday('now') - 2440587.5) * 86400.0)"
    position = "instr"
    not_compared = ""

    def __init__(self, path: Path | None, *, reads_only: bool) -> None:
        self.path, self.name, self.writing = path, str(path), ""
        noted = read_noted_count(path) if path else 0
        try:
            if path and path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path and not path.exists():
                refuse_lost_replies(path, noted, 0)
            self._connection = _open_ledger(path, reads_only=reads_only)
            self._prepare(reads_only=reads_only)
            count = self._count_replies()
        except _FAULTS as error:
            raise UserError(explain_error(path or Path(), error)) from error
        if path:
            refuse_lost_replies(path, noted, count)
            if not reads_only:
                note_count(path, count)

    def transact(self, work: Callable[[], T], *, writes: bool = True) -> T:
        """Do `work` in one transaction; UserError for what SQLite refuses."""
        self.writing = ""
        try:
            self.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                result = work()
                self.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite itself ends the transaction.
                if self._connection.in_transaction:
                    self.execute("ROLLBACK")
                raise
        except _FAULTS as error:
            raise self.explain(error) from error
        return result

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self._connection.execute(statement, tuple(values))

    def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run it once for every row of values."""
        self._connection.executemany(statement, rows)

    def explain(self, error: Exception) -> Exception:
        """A UserError for what SQLite refuses."""
        if not isinstance(error, _FAULTS):
            return error
        return UserError(explain_error(Path(self.name), error, self.writing))

    def find_fault(self) -> str:
        """The first difference between the table of replies and its index.

        A key that changed on the disk is found nowhere, so no checksum is compared.
        """
        found = " ".join(self.execute("PRAGMA integrity_check(replies)").fetchone()[0].split())
        return "" if found == "ok" else found

    def note_replies(self, *, fewer: bool = False) -> None:
        """Note in a file next to it how many replies there are."""
        if self.path:
            if fewer:
                _count_file(self.path).unlink(missing_ok=True)
            note_count(self.path, self._count_replies())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare(self, *, reads_only: bool) -> None:
        """Make the tables or bring them up to date. UserError if a newer CAFT wrote them."""
        self.version = self._read_version()
        if self.version > VERSION:
            raise UserError(
                f"the teacher's ledger {self.path} was written by a newer CAFT (version "
                f"{self.version}, this one reads {VERSION}); update CAFT, or set store.ledger_url "
                "to another"
            )
        if reads_only:
            self._refuse_other_tables()
        if self.version < VERSION and not (reads_only and self.version):
            self.transact(self._bring_up_to_date)

    def _bring_up_to_date(self) -> None:
        self.version = self._read_version()  # another process may have done it just now
        self._refuse_other_tables()
        if not self.version:
            for statement in _SCHEMA.split(";"):
                self.execute(statement)
            self.version = 1
        bring_up_to_date(self)
        self.execute(f"PRAGMA user_version={VERSION}")

    def _refuse_other_tables(self) -> None:
        if not self.version and _has_tables(self._connection):
            raise UserError(
                f"{self.path} is a database of another program; give the teacher's ledger a file "
                "of its own"
            )

    def _read_version(self) -> int:
        return int(self.execute("PRAGMA user_version").fetchone()[0])

    def _count_replies(self) -> int:
        return int(self.execute("SELECT COUNT(*) FROM replies").fetchone()[0])


_FAULTS = (sqlite3.Error, OSError, OverflowError, UnicodeError)


# Opening


def _open_ledger(path: Path | None, *, reads_only: bool) -> sqlite3.Connection:
    database = _open_to_read(path) if reads_only or not path else _open_to_write(path)
    if reads_only and not _has_tables(database):
        # Empty, or another process makes its tables just now.
        database.close()
        database = _open_to_read(None)
    # Damage may leave bytes that are no UTF-8, which a checksum tells better than an error.
    database.text_factory = _read_text
    return database


def _read_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _has_tables(database: sqlite3.Connection) -> bool:
    return bool(database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])


def _open_to_write(path: Path) -> sqlite3.Connection:
    refuse_network_disk(path)
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


def _open_to_read(path: Path | None) -> sqlite3.Connection:
    # A run that has just begun, or was killed then, leaves an empty file.
    if not path or not path.exists() or not path.stat().st_size:
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
            f"the teacher's ledger {ledger} is {state}, and had {count_of(noted, 'reply')}: put it "
            f"back from a backup, or, to pay again, remove {_count_file(ledger)}"
        )


# Errors


def explain_error(path: Path, error: Exception, row: str = "") -> str:
    """One line: the ledger, the error, its cause and what helps. `row` names what was written."""
    doing = f" while {row} was written" if row else ""
    text = " ".join(str(error).split())
    file = path.absolute()
    repaired = file.with_name(f"repaired-{file.name}")
    remedy = _find_remedy(error).format(
        file=shlex.quote(str(file)), repaired=shlex.quote(str(repaired))
    )
    return (
        f"the teacher's ledger {path} cannot be used ({text}){doing}: {remedy}, or set "
        "store.ledger_url to another"
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


def refuse_network_disk(path: Path, mounts: Iterable[Mount] | None = None) -> None:
    """UserError if `path` is on a network file system, of this host or of `mounts`.

    The write-ahead log of SQLite may be corrupted there.
    """
    mount = find_mount(path, mounts)
    if mount.is_network:
        raise UserError(
            f"the teacher's ledger {path} is on a network file system ({mount.kind}), where SQLite "
            "can lose replies that were paid for; set store.ledger_url=postgresql://HOST/DATABASE, "
            "or sqlite:////FILE on a local disk for this machine alone, and take along what was "
            f"bought: python -m caft.teachers.ledger copy {shlex.quote(str(path.absolute()))} URL"
        )

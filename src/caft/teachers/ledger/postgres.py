"""A ledger in a PostgreSQL database, which many hosts share: its tables, connection and errors."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from caft.dials import refuse_password
from caft.errors import UserError
from caft.program import install_hint
from caft.teachers.ledger.database import Rows, mask_password
from caft.teachers.ledger.migrations import VERSION, bring_up_to_date

T = TypeVar("T")
log = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0
"""How long a database that was there before is waited for: replies that were paid for are held."""

# Version 2: the others are made from it by migrations.
# Compared by bytes, whatever language the database sorts in.
_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS caft_ledger;
CREATE TABLE replies (
    key TEXT COLLATE "C" PRIMARY KEY, model TEXT NOT NULL, endpoint TEXT NOT NULL,
    attempt BIGINT NOT NULL, request TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
    usage_estimated BIGINT NOT NULL, usd FLOAT8 NOT NULL CHECK (usd < 'Infinity'),
    seconds FLOAT8 NOT NULL, arrived FLOAT8 NOT NULL, reasoning TEXT
);
CREATE INDEX replies_by_model ON replies (model, prompt_tokens, completion_tokens);
CREATE TABLE claims (
    key TEXT COLLATE "C" PRIMARY KEY, model TEXT NOT NULL, owner TEXT NOT NULL,
    machine TEXT NOT NULL, pid BIGINT NOT NULL, expires FLOAT8 NOT NULL,
    reserved_usd FLOAT8 NOT NULL
);
CREATE TABLE spending (
    model TEXT PRIMARY KEY, calls BIGINT NOT NULL, usd FLOAT8 NOT NULL, unsure_usd FLOAT8 NOT NULL
);
CREATE TABLE failures (
    key TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, unsure_usd FLOAT8 NOT NULL,
    at FLOAT8 NOT NULL
);
CREATE TABLE version (number BIGINT NOT NULL);
"""
# For one transaction each, so that a pooler between us and the database may change sessions. A
# host that falls asleep in a transaction does not hold up the others. Only a weaker
# synchronous_commit than a sync to disk is raised. The isolation is never the database's default: a
# writer must see what was committed while it waited for its turn.
_BEGIN = """
BEGIN {mode};
SET LOCAL search_path = caft_ledger;
SET LOCAL lock_timeout = '60s';
SET LOCAL idle_in_transaction_session_timeout = '30s';
SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off';
"""
_WRITING, _READING = "ISOLATION LEVEL READ COMMITTED", "ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ONE_WRITER = "SELECT pg_advisory_xact_lock(4837200911)"
# With amcheck's schema, which the search path leaves out, and whether this user may call it.
_FIND_AMCHECK = """
SELECT quote_ident(n.nspname), has_schema_privilege(n.oid, 'USAGE')
    AND has_function_privilege(p.oid, 'EXECUTE')
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'bt_index_check' AND p.pronargs = 2
WHERE e.extname = 'amcheck'
"""
_INDEXES = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
WHERE t.relnamespace = 'caft_ledger'::regnamespace
"""
_TABLES = ["replies", "claims", "spending", "failures", "version"]
_DEFAULTS = {
    "connect_timeout": 10, "application_name": "caft", "client_encoding": "UTF8",
    "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}  # fmt: skip

_GRANTS = (
    "its owner must GRANT USAGE ON SCHEMA caft_ledger and GRANT SELECT, INSERT, UPDATE, DELETE ON "
    "ALL TABLES IN SCHEMA caft_ledger to this user (and CREATE ON DATABASE, where the schema is "
    "not made yet)"
)
_REMEDIES = {
    "42501": _GRANTS,
    "25006": "it takes no writes, a standby perhaps: give the address of the primary",
    "28": "check the user, and the password in PGPASSWORD or ~/.pgpass",
    "3D": "make it with createdb, or check its name",
    "42": "its tables are not those of a ledger: give another database",
    "53": "it has no room or no free connection left: give it more",
    "55P03": "another client held its lock for a minute: end that client",
    "22": "a row does not fit into it: this is a bug in CAFT, please report it",
    "23": "a row does not fit into it: this is a bug in CAFT, please report it",
    "58": "its server has trouble with its disk: see its log",
    "XX": "it may be damaged: see its server's log",
}
"""What helps, by the first characters of SQLSTATE."""


class PostgresDatabase:
    """The ledger at the address `url`; libpq reads PGPASSWORD and ~/.pgpass.

    A connection that is lost is made again, and its transaction done again.
    """

    clock = "(EXTRACT(EPOCH FROM clock_timestamp())::float8)"
    position = "strpos"
    version = VERSION

    def __init__(self, url: str, *, reads_only: bool) -> None:
        self._url, self.name, self.writing = url, mask_password(url), ""
        self.not_compared = ""
        refuse_password("the address of the teacher's ledger", url)
        self._psycopg = _import_psycopg(self.name)
        try:
            self._connection = self._connect()
        except self._psycopg.Error as error:
            raise self._explained(error) from error
        self.has_tables, self._patience = False, PATIENCE_SECONDS
        self.transact(self._check if reads_only else self._prepare, writes=not reads_only)

    def transact(self, work: Callable[[], T], *, writes: bool = True) -> T:
        """Do `work` in one transaction, again where the connection was lost."""
        self.writing, began, told = "", time.monotonic(), False
        while True:
            try:
                result = self._try(work, writes=writes)
                self._patience = PATIENCE_SECONDS
                return result
            except self._psycopg.Error as error:
                lost = getattr(self._connection, "closed", True)
                if not lost or time.monotonic() - began > self._patience:
                    # What is still to be written then does not wait as long again, each.
                    self._patience = 0.0 if lost else self._patience
                    raise self._explained(error) from error
                if not told:
                    log.warning("%s", self._say_lost(error))
                told = True
                time.sleep(0.2)

    def execute(self, statement: str, values: Sequence[object] = ()) -> Rows:
        """Run one statement."""
        cursor = self._connection.execute(
            statement.replace("?", "%s"), [_escape(value) for value in values]
        )
        return _Result(cursor)

    def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run it once for every row of values."""
        escaped = [[_escape(value) for value in row] for row in rows]
        self._connection.cursor().executemany(statement.replace("?", "%s"), escaped)

    def explain(self, error: Exception) -> Exception:
        """A UserError for what PostgreSQL refuses."""
        return self._explained(error) if isinstance(error, self._psycopg.Error) else error

    def find_fault(self) -> str:
        """The first difference between a table and an index, where amcheck may be asked."""
        found = self.execute(_FIND_AMCHECK).fetchone()
        schema, allowed = found or ("", False)
        self.not_compared = "" if allowed else self._ask_for_amcheck(schema)
        return self._compare_indexes(schema) if allowed else ""

    def _ask_for_amcheck(self, schema: str) -> str:
        (user,) = self.execute("SELECT quote_ident(current_user)").fetchone()
        make = "" if schema else "CREATE EXTENSION amcheck; "
        return (
            "its indexes were not compared with its tables, and a row that its index has lost is "
            f"bought again: for that, ask the database's administrator to run `{make}GRANT EXECUTE "
            f"ON FUNCTION {schema and schema + '.'}bt_index_check(regclass, boolean) TO {user}`"
        )

    def _compare_indexes(self, schema: str) -> str:
        errors = self._psycopg.errors
        self.execute("SAVEPOINT before_amcheck")  # which ends a transaction with what it finds
        try:
            for (index,) in self.execute(_INDEXES).fetchall():
                self.execute(f"SELECT {schema}.bt_index_check(?::regclass, true)", (index,))
        except (errors.IndexCorrupted, errors.DataCorrupted) as error:
            self.execute("ROLLBACK TO before_amcheck")
            return _first_line(error)
        return ""

    def note_replies(self, *, fewer: bool = False) -> None:
        """Nothing: a database does not get lost as a file does."""

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _connect(self) -> Any:
        given = self._psycopg.conninfo.conninfo_to_dict(self._url)
        return self._psycopg.connect(**(_DEFAULTS | given), autocommit=True, prepare_threshold=None)

    def _try(self, work: Callable[[], T], *, writes: bool) -> T:
        if self._connection.closed:
            self._connection = self._connect()
        try:
            self._connection.execute(_BEGIN.format(mode=_WRITING if writes else _READING))
            if writes:
                self._connection.execute(_ONE_WRITER)
            result = work()
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(self._psycopg.Error):
                self._connection.execute("ROLLBACK")
            raise
        return result

    # Tables

    def _prepare(self) -> None:
        """Make the tables where they are missing, and check them."""
        if self.execute("SELECT to_regclass('caft_ledger.version')").fetchone()[0] is None:
            self._connection.execute(_SCHEMA)
            self.execute("INSERT INTO version VALUES (?)", (2,))
        self._check()
        if self.version < VERSION:
            self._refuse_other_owner()
            bring_up_to_date(self)
            self.execute("UPDATE version SET number = ?", (VERSION,))
        for table in _TABLES[:-1]:
            for right in ("INSERT", "UPDATE", "DELETE"):
                self._refuse_without(right, table)

    def _check(self) -> None:
        self._refuse_other_encoding()
        visible = "SELECT 1 FROM pg_tables WHERE schemaname = 'caft_ledger' AND tablename = ?"
        self.has_tables = self.execute(visible, ("version",)).fetchone() is not None
        if self.has_tables:
            (self.version,) = self.execute("SELECT number FROM version").fetchone()
            if self.version > VERSION:
                raise UserError(
                    f"the teacher's ledger {self.name} has tables of version {self.version}, this "
                    f"CAFT has {VERSION}; update CAFT here, or give another database as "
                    "store.ledger_url"
                )

    def _refuse_other_owner(self) -> None:
        owns, owner = self.execute(
            "SELECT pg_has_role(tableowner, 'USAGE'), tableowner FROM pg_tables "
            "WHERE schemaname = 'caft_ledger' AND tablename = 'version'"
        ).fetchone()
        if not owns:
            raise UserError(
                f"the teacher's ledger {self.name} has tables of version {self.version}, this CAFT "
                f"has {VERSION}, and only their owner may bring them up to date: "
                f"start a run with this ledger once as {owner}"
            )

    def _refuse_other_encoding(self) -> None:
        (encoding,) = self.execute("SELECT current_setting('server_encoding')").fetchone()
        if encoding != "UTF8":
            raise UserError(
                f"the database of {self.name} keeps text as {encoding}, and replies may hold any "
                "character; make another with createdb --encoding=UTF8 --template=template0"
            )

    def _refuse_without(self, right: str, table: str) -> None:
        ask = "SELECT has_table_privilege(?, ?)"
        if not self.execute(ask, (f"caft_ledger.{table}", right)).fetchone()[0]:
            raise UserError(
                f"the teacher's ledger {self.name} gives this user no right to {right} in "
                f"caft_ledger.{table}: {_GRANTS}"
            )

    # Errors

    def _say_lost(self, error: Exception) -> str:
        return (
            f"the teacher's ledger {self.name} was lost ({_first_line(error)}): waiting for it, "
            f"{PATIENCE_SECONDS:.0f} seconds at most"
        )

    def _explained(self, error: Exception) -> UserError:
        state = getattr(error, "sqlstate", None) or _guess_state(str(error))
        remedy = next(
            (_REMEDIES[state[:length]] for length in (5, 2) if state[:length] in _REMEDIES),
            "check the address, and that the server runs and can be reached from here",
        )
        doing = f" while {self.writing} was written" if self.writing else ""
        return UserError(
            f"the teacher's ledger {self.name} cannot be used ({_first_line(error)}){doing}: "
            f"{remedy}, or set store.ledger_url to another"
        )


class _Result:
    """A cursor whose texts are as they were given."""

    def __init__(self, cursor: Any) -> None:
        self._cursor, self.rowcount = cursor, int(cursor.rowcount)

    def fetchone(self) -> Any:
        row = self._cursor.fetchone()
        return row and tuple(map(_unescape, row))

    def fetchall(self) -> list[Any]:
        return [tuple(map(_unescape, row)) for row in self._cursor.fetchall()]


def _import_psycopg(name: str) -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise UserError(
            f"store.ledger_url={name} needs a driver that is not installed: "
            f"{install_hint('postgres')}"
        ) from error
    return psycopg


def _first_line(error: Exception) -> str:
    lines = mask_password(str(error)).strip().splitlines() or [type(error).__name__]
    # With several addresses of a host, the last try says what is wrong.
    line = next((line for line in reversed(lines) if "failed" in line), lines[0])
    return " ".join(line.split())


def _guess_state(text: str) -> str:
    """The SQLSTATE of a connection that was refused: libpq passes on only the words."""
    if "does not exist" in text and "database" in text:
        return "3D000"
    words = ("authentication", "password", "pg_hba.conf", "role ")
    return "28000" if any(word in text for word in words) else ""


# PostgreSQL's text holds every character but the first; a reply that was paid for may.


def _escape(value: object) -> object:
    if isinstance(value, str) and ("\0" in value or "\1" in value):
        return value.replace("\1", "\1\1").replace("\0", "\0010")
    return value


def _unescape(value: object) -> object:
    if isinstance(value, str) and "\1" in value:
        return re.sub("\1(.)", lambda found: "\0" if found[1] == "0" else "\1", value)
    return value

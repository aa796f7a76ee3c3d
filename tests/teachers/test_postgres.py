"""What a ledger in PostgreSQL refuses, and copies between it and a file."""

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from caft.errors import UserError
from caft.mounts import Mount
from caft.store.config import StoreConfig
from caft.teachers.ledger import Ledger, check_ledger
from caft.teachers.ledger.__main__ import main
from caft.teachers.ledger.copying import Copied, copy_ledger
from caft.teachers.ledger.sqlite import refuse_network_disk
from caft.teachers.prices import Caps, Spending
from caft.teachers.replies import LedgerEntry, TeacherReply


def entry(key, usd=1.0, text="t", reasoning=None):
    return LedgerEntry(
        reply=TeacherReply(key=key, text=text, finish_reason="stop", usd=usd, reasoning=reasoning),
        attempt=0, request="{}", endpoint="e", usage_estimated=False,
    )  # fmt: skip


def buy(place, *entries, model="m"):
    with Ledger(place, model) as ledger:
        ledger.claim([(each.reply.key, 2.0) for each in entries], Caps())
        ledger.commit(entries)


def read(place, *keys, model="m"):
    with Ledger(place, model, reads_only=True) as ledger:
        return {key: (each.text, each.usd) for key, each in ledger.replies(keys).items()}


# Refusals


@pytest.mark.parametrize("url", [
    "postgresql://me:hunter2@host/db", "postgresql://me:12,34@host/db",
    "postgresql://me@host/db?password=hunter2",
    "postgres://me:hun/ter2@host:5432/db", "postgresql://host/db?user=me&sslpassword=hunter2",
])  # fmt: skip
def test_a_password_is_refused_and_never_repeated(url):
    for refuse in (lambda: StoreConfig(ledger_url=url), lambda: check_ledger(url)):
        with pytest.raises(UserError, match="PGPASSWORD") as caught:
            refuse()
        assert "hun" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://host/db", "/a/file", "sqlite:///", "postgresql:/host"])
def test_only_known_addresses_are_taken(url):
    with pytest.raises(UserError, match=r"is no ledger; give postgresql://HOST/DATABASE"):
        StoreConfig(ledger_url=url)


def test_where_the_ledger_is(tmp_path):
    assert StoreConfig(path=str(tmp_path)).ledger == tmp_path / "ledger.sqlite"
    assert StoreConfig(ledger_url=f"sqlite:///{tmp_path}/l").ledger == tmp_path / "l"
    assert StoreConfig(ledger_url="sqlite:///l").ledger.is_absolute()
    url = "postgresql://me@host:5432/db"
    assert StoreConfig(ledger_url=url).ledger == url


def test_a_driver_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"needs a driver .* pip install 'psycopg\["):
        check_ledger("postgresql://host/db")


def test_a_server_or_a_database_that_is_not_there(postgres, tmp_path):
    with pytest.raises(UserError, match=r"cannot be used .*check the address, and that the server"):
        check_ledger(f"postgresql://caft@/db?host={tmp_path}")
    with pytest.raises(UserError, match="make it with createdb"):
        check_ledger(postgres.address("nowhere"))
    with pytest.raises(UserError, match="check the user, and the password in PGPASSWORD"):
        check_ledger(postgres.address(user="nobody_known"))


@pytest.mark.parametrize("given", [None, "hunter2wrong"])
def test_a_password_that_is_wrong_or_missing(postgres, monkeypatch, given):
    postgres.execute("DROP ROLE IF EXISTS locked", "CREATE ROLE locked LOGIN PASSWORD 'right1234'")
    if given:
        monkeypatch.setenv("PGPASSWORD", given)
    with pytest.raises(UserError, match=r"the password in PGPASSWORD or ~/.pgpass") as caught:
        check_ledger(postgres.address(user="locked"))
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", "right1234")
    with pytest.raises(UserError, match="CREATE ON DATABASE"):  # let in
        check_ledger(postgres.address(user="locked"))


def test_rights_that_are_missing_and_the_grants_that_help(postgres):
    def guest(**more):
        return Ledger(postgres.address(user="guest"), "m", **more)

    postgres.execute("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    with pytest.raises(UserError, match=r"permission denied.*CREATE ON DATABASE"):
        guest()
    buy(postgres.address(), entry("a"))
    with pytest.raises(UserError, match=r"permission denied.*GRANT USAGE ON SCHEMA caft_ledger"):
        guest()
    postgres.execute(
        "GRANT USAGE ON SCHEMA caft_ledger TO guest",
        "GRANT SELECT ON ALL TABLES IN SCHEMA caft_ledger TO guest",
    )
    with pytest.raises(UserError, match=r"no right to INSERT in caft_ledger.replies: .*GRANT"):
        guest()
    with guest(reads_only=True) as ledger:
        assert set(ledger.replies("a")) == {"a"}
    postgres.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA caft_ledger TO guest"
    )
    with guest() as ledger:
        assert ledger.claim([("b", 1.0)], Caps()).taken == ["b"]
    postgres.execute("DROP OWNED BY guest", "DROP ROLE guest")


def test_tables_of_another_version_and_another_encoding(postgres):
    check_ledger(postgres.address())
    postgres.execute("UPDATE caft_ledger.version SET number = 99")
    for reads_only in (False, True):
        with pytest.raises(UserError, match="tables of version 99, this CAFT has 4; update CAFT"):
            Ledger(postgres.address(), "m", reads_only=reads_only)
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(UserError, match=r"keeps text as LATIN1.*--encoding=UTF8"):
        check_ledger(postgres.address("latin"))
    postgres.execute("DROP DATABASE latin")


def test_reading_where_there_is_no_ledger_makes_none(postgres):
    assert read(postgres.address(), "a") == {}
    with pytest.raises(Exception, match="caft_ledger"):
        postgres.execute("SELECT 1 FROM caft_ledger.replies")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "gpfs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path, kind):
    root, remote = Mount("/", "ext4"), Mount(str(tmp_path), kind)
    mounts = [root, remote, Mount(str(tmp_path / "local"), "xfs")]
    with pytest.raises(UserError, match=rf"network file system \({kind}\).*ledger copy .*/l URL"):
        refuse_network_disk(tmp_path / "deep" / "l", mounts)
    with pytest.raises(UserError, match=r"ledger copy '.*/a b/l' URL$"):
        refuse_network_disk(tmp_path / "a b" / "l", mounts)
    refuse_network_disk(tmp_path / "local" / "l", mounts)
    # A container's root, and one mounted over another.
    refuse_network_disk(
        tmp_path / "l", [Mount("/", "overlay"), Mount(str(tmp_path / "other"), kind)]
    )
    refuse_network_disk(tmp_path / "l", [*mounts, Mount(str(tmp_path), "tmpfs")])


# What a database does of its own


def test_replies_come_back_with_every_character(place):
    texts = {
        str(n): text for n, text in enumerate(["\0", "a\0\1", "\1\0010", "\x01", "ü🙂\n'%s?\\"])
    }
    buy(place, *(entry(key, text=text, reasoning=text) for key, text in texts.items()))
    with Ledger(place, "m") as ledger:
        replies = ledger.replies(texts)
    assert {key: each.text for key, each in replies.items()} == texts
    assert {key: each.reasoning for key, each in replies.items()} == texts


def test_a_connection_that_was_cut_is_made_again(postgres):
    with Ledger(postgres.address(), "m") as ledger:
        ledger.claim([("a", 1.0), ("b", 1.0)], Caps())
        for act in (
            lambda: ledger.commit([entry("a")]), ledger.renew,
            lambda: ledger.give_up("b", "HTTP 500", 0.5), lambda: ledger.replies(["a"]),
        ):  # fmt: skip
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid != pg_backend_pid() AND application_name = 'caft'"
            )
            act()
        assert ledger.spending() == Spending(calls=2, usd=1.0, unsure_usd=0.5)


def test_a_writer_sees_what_was_committed_while_it_waited(postgres):
    """Also where the database's default is to see what was there when it began to wait."""
    url = f"{postgres.address()}&options=-c%20default_transaction_isolation%3Dserializable"
    with Ledger(url, "m") as first, Ledger(url, "m") as second, ThreadPoolExecutor(1) as other:

        def claim_after_another():
            first._insert_claims([("a", 1.0)])
            waiting = other.submit(second.claim, [("a", 1.0), ("b", 1.0)], Caps(calls=1))
            while not first.database.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ).fetchall():
                pass
            return waiting

        claims = first.database.transact(claim_after_another).result()
        assert (claims.held, claims.capped, claims.taken) == (["a"], ["b"], [])


def test_a_database_that_was_given_up_is_not_waited_for_again(postgres, monkeypatch, tmp_path):
    monkeypatch.setattr("caft.teachers.ledger.postgres.PATIENCE_SECONDS", 0.5)
    waits = []
    monkeypatch.setattr("caft.teachers.ledger.postgres.time.sleep", waits.append)
    ledger = Ledger(postgres.address(), "m")
    ledger.claim([("a", 1.0)], Caps())
    ledger.database._url = f"postgresql://caft@/db?host={tmp_path}"
    ledger.database.close()
    with pytest.raises(UserError, match="cannot be used"):
        ledger.renew()
    assert waits
    waits.clear()
    with pytest.raises(UserError, match="cannot be used"):
        ledger.close()
    assert not waits


def test_a_claim_whose_answer_was_lost_on_the_way_is_ours_and_counted_once(place):
    with Ledger(place, "m") as ledger:
        for _ in range(2):
            assert ledger.claim([("a", 1.0)], Caps(calls=1)).taken == ["a"]
        assert ledger.spending() == Spending(calls=1, reserved_usd=1.0, in_flight=1)


def test_a_number_that_is_none_is_refused(place):
    with Ledger(place, "m") as ledger:
        with pytest.raises(UserError, match="while the reply bad of m was written: a row does not"):
            ledger.commit([entry("bad", usd=float("nan"))])
        ledger.commit([entry("good")])
    assert set(read(place, "bad", "good")) == {"good"}


# Copies


def test_a_copy_there_and_back_has_everything_and_twice_is_once(postgres, tmp_path):
    first, last, url = tmp_path / "first", tmp_path / "last", postgres.address()
    entries = [entry(f"{n:04}", usd=0.1, text=f"t{n}\0") for n in range(1100)]
    buy(first, *entries)
    with Ledger(first, "m") as ledger:
        ledger.claim([("x", 2.0)], Caps())
        ledger.give_up("x", "timeout", 2.0)
    for _ in range(2):
        assert copy_ledger(str(first), url).replies in (1100, 0)
    assert copy_ledger(url, f"sqlite:///{last}") == Copied(replies=1100)
    keys = [each.reply.key for each in entries]
    assert read(first, *keys) == read(url, *keys) == read(last, *keys)
    spent = [Ledger(each, "m", reads_only=True).spending() for each in (first, url, last)]
    assert spent[0] == spent[1] == spent[2]
    assert (spent[0].calls, spent[0].unsure_usd) == (1101, 2.0)


def test_a_copy_adds_only_what_is_new(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    buy(one, entry("a"), entry("b", text="one's"))
    buy(two, entry("b", text="two's", usd=3.0), entry("c"))
    assert copy_ledger(str(one), str(two)) == Copied(replies=1, known=1, others=1)
    assert read(two, *"abc") == {"a": ("t", 1.0), "b": ("two's", 3.0), "c": ("t", 1.0)}
    with Ledger(two, "m") as ledger:
        assert ledger.spending() == Spending(calls=3, usd=5.0)
    assert copy_ledger(str(one), str(two)) == Copied(known=2, others=1)


def test_a_damaged_ledger_that_is_copied_is_named_and_not_the_other(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    buy(one, *(entry(f"{n:04}", text="t" * 500) for n in range(400)))
    with sqlite3.connect(one) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = database.execute("PRAGMA page_size").fetchone()[0]
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'replies'"
        ).fetchone()
    database.close()
    whole = bytearray(one.read_bytes())
    whole[(root - 1) * size : root * size] = b"\xff" * size
    one.write_bytes(whole)
    with pytest.raises(UserError, match=f"the teacher's ledger {one} cannot be used .*damaged"):
        copy_ledger(str(one), str(two))


def test_the_command_and_what_it_refuses(tmp_path, capsys):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    buy(tmp_path / "one", entry("a"))
    assert main(["copy", one, two]) == 0
    assert "copied 1 reply, found 0 there; compared 1" in capsys.readouterr().out
    with Ledger(tmp_path / "one", "m") as ledger:
        ledger.claim([("b", 1.0)], Caps())
        assert main(["copy", one, two]) == 2
    refused = (
        (one, one),
        (str(tmp_path / "none"), two),
        (one, "postgresql://me:secret@host/db"),
        (one, "mysql://me:secret@host/db"),
        ("", two),
    )
    assert [main(["copy", *pair]) for pair in refused] == [2] * 5
    told = capsys.readouterr().err
    for words in (
        "'mysql://me:***@host/db' is no ledger",
        "a word of the command is empty",
        "1 call in flight",
        "are the same ledger",
        "no ledger at",
        "PGPASSWORD",
    ):
        assert words in told
    assert "secret" not in told

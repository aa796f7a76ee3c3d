"""A row that is not as it was written is never used; it is named, and can be dropped."""

import re
import shlex
import struct

import pytest

from caft.errors import UserError
from caft.teachers.ledger import Ledger, check_ledger
from caft.teachers.ledger import copying as copying_module
from caft.teachers.ledger import migrations as migrations_module
from caft.teachers.ledger.__main__ import main
from caft.teachers.ledger.copying import Copied, copy_ledger
from caft.teachers.ledger.opening import open_database
from caft.teachers.ledger.tables import TABLES, select
from caft.teachers.prices import Caps, Spending
from caft.teachers.replies import LedgerEntry, TeacherReply


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request, make_place):
    return make_place(request.param)


def entry(key, usd=1.0):
    reply = TeacherReply(
        key=key, text="text", finish_reason="stop", prompt_tokens=3, completion_tokens=4, usd=usd,
        seconds=0.5, reasoning="Hm.",
    )  # fmt: skip
    return LedgerEntry(
        reply=reply, attempt=0, request="{}", endpoint="e", usage_estimated=False
    )  # fmt: skip


def buy(place, *keys, model="m"):
    with Ledger(place, model) as ledger:
        ledger.claim([(key, 2.0) for key in keys], Caps())
        ledger.commit([entry(key) for key in keys])


def read(place, *keys):
    with Ledger(place, "m", reads_only=True) as ledger:
        return ledger.replies(keys)


def execute(place, statement, *values):
    """The rows of a SELECT; of any other statement none."""

    def work():
        rows = database.execute(statement, values)
        return rows.fetchall() if statement.startswith("SELECT") else []

    database = open_database(place, reads_only=False)
    try:
        return database.transact(work)
    finally:
        database.close()


def flip(value):
    if isinstance(value, str):
        return chr(ord(value[0]) ^ 1) + value[1:]
    if isinstance(value, int):
        return value ^ 1
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return struct.unpack("<d", struct.pack("<q", bits ^ 1))[0]


def set_column(place, table, column, old, new):
    first = TABLES[table][0]
    was = old if column == first else execute(place, f"SELECT {first} FROM {table}")[0][0]
    execute(place, f"UPDATE {table} SET {column} = ? WHERE {first} = ?", new, was)


@pytest.mark.parametrize("table", [table for table in TABLES if table != "claims"])
def test_one_bit_of_any_column_is_noticed(place, tmp_path, table):
    buy(place, "a")
    with Ledger(place, "m") as ledger:
        ledger.claim([("b", 2.0)], Caps())
        ledger.give_up("b", "timeout", 2.0)
    (row,) = execute(place, select(table, 3))
    for column, value in zip((*TABLES[table], "checksum"), row, strict=True):
        damaged = flip(value)
        set_column(place, table, column, value, damaged)
        key = damaged if column == "key" else "a"
        if table == "replies":
            with pytest.raises(
                UserError, match=r"1 of the replies read \(.*\) changed on the disk"
            ):
                read(place, key)
            with Ledger(place, "m") as ledger, pytest.raises(UserError, match="is damaged"):
                ledger.claim([(key, 1.0)], Caps())
        if (table, column) == ("replies", "prompt_tokens"):
            with Ledger(place, "m") as ledger, pytest.raises(UserError, match="is damaged"):
                ledger.token_counts()
        if table == "spending":
            with Ledger(place, "m") as ledger, pytest.raises(UserError, match="of the spending"):
                ledger.claim([("c", 1.0)], Caps(usd=1.0))
        with pytest.raises(UserError, match="is damaged"):
            copy_ledger(str(place), str(tmp_path / "copy"))
        assert main(["check", str(place)]) == 2
        set_column(place, table, column, damaged, value)
    assert main(["check", str(place)]) == 0
    assert read(place, "a")["a"].text == "text"
    assert copy_ledger(str(place), str(tmp_path / "copy")) == Copied(replies=1)


def test_the_advice_works_and_what_is_dropped_can_be_bought_again(place, capsys):
    buy(place, "a")
    execute(place, "UPDATE replies SET text = 'next'")
    with pytest.raises(UserError) as caught:
        read(place, "a")
    words = re.search(r"python -m caft.teachers.ledger (.*)$", str(caught.value))[1]
    assert main(shlex.split(words)) == 0
    assert "dropped 1 of the replies read (a)" in capsys.readouterr().out
    with Ledger(place, "m") as ledger:
        # What it cost stays counted.
        assert ledger.spending() == Spending(calls=1, usd=1.0)
        assert ledger.claim([("a", 1.0)], Caps()).taken == ["a"]


def test_a_reply_is_kept_though_the_spending_is_damaged_which_can_be_summed_again(place):
    with Ledger(place, "m") as ledger:
        ledger.claim([("a", 2.0), ("b", 2.0)], Caps())
        execute(place, "UPDATE spending SET usd = 0.125")
        ledger.commit([entry("a")])
        ledger.give_up("b", "timeout", 2.0)
        name = re.escape(ledger.database.name)
        with pytest.raises(UserError, match=rf"{name} is damaged: 1 of the spending read \(m\)"):
            ledger.spending()
    assert set(read(place, "a")) == {"a"}
    assert main(["check", str(place), "--drop"]) == 0
    with Ledger(place, "m") as ledger:
        assert ledger.spending() == Spending(calls=2, usd=1.0, unsure_usd=2.0)


def test_what_was_spent_under_a_damaged_name_is_summed_with_what_came_later(place):
    buy(place, "a", "b")
    execute(place, "UPDATE spending SET model = 'n'")
    with Ledger(place, "m") as ledger:
        ledger.database.transact(lambda: ledger._count(unsure=2.0))  # such as by a run that asks
    assert main(["check", str(place), "--drop"]) == 0
    with Ledger(place, "m") as ledger:
        assert ledger.spending() == Spending(calls=2, usd=2.0, unsure_usd=2.0)


def test_a_reply_is_kept_though_a_number_of_the_spending_is_none(make_place):
    place = make_place("sqlite")
    with Ledger(place, "m") as ledger:
        ledger.claim([("a", 2.0)], Caps())
        execute(place, "UPDATE spending SET calls = 'x', usd = x'00'")
        ledger.commit([entry("a")])
    assert main(["check", str(place), "--drop"]) == 0
    with Ledger(place, "m") as ledger:
        assert ledger.spending() == Spending(calls=1, usd=1.0)


def test_bytes_that_are_no_text_are_damage(make_place):
    place = make_place("sqlite")
    buy(place, "a", "b")
    execute(place, "UPDATE replies SET text = CAST(x'74ff' AS TEXT) WHERE key = 'a'")
    execute(place, "UPDATE replies SET key = CAST(x'ff' AS TEXT) WHERE key = 'b'")
    with pytest.raises(UserError, match=r"1 of the replies read \(a\)"):
        read(place, "a")
    assert main(["check", str(place), "--drop"]) == 0
    assert main(["check", str(place)]) == 0


@pytest.mark.parametrize("which", [0, 1])  # in the table and in its index, in either order
def test_a_reply_that_is_not_found_any_more_is_not_bought_again_without_a_word(
    which, make_place, tmp_path, capsys
):
    place, keys = make_place("sqlite"), ["aaaa1111", "bbbb2222", "cccc3333"]
    buy(place, *keys)
    content = bytearray(place.read_bytes())
    at = [found.start() for found in re.finditer(b"bbbb2222", content)]
    assert len(at) == 2
    content[at[which]] ^= 16  # out of order, so that a search may miss its neighbours, too
    place.write_bytes(content)
    with Ledger(place, "m") as ledger, pytest.raises(UserError, match="is damaged") as caught:
        ledger.claim([(key, 1.0) for key in keys], Caps())
    assert "may not be found, and be bought again (" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=rf"ledger {re.escape(str(place))} is damaged"):
        copy_ledger(str(place), str(tmp_path / "copy"))
    assert main(["check", str(place)]) == 2
    assert main(shlex.split(str(caught.value).partition(".ledger ")[2])) == 0
    assert main(["check", str(place)]) == 0
    with Ledger(place, "m") as ledger:
        claims = ledger.claim([(key, 1.0) for key in keys], Caps())
    kept = {reply.key for reply in claims.bought}
    assert kept | set(claims.taken) == set(keys)
    assert kept in ({"aaaa1111", "cccc3333"}, set(keys))
    assert ("dropped 1 of the replies" in capsys.readouterr().out) == bool(claims.taken)


INDEX = "'caft_ledger.replies_pkey'::regclass"


@pytest.fixture
def amcheck(postgres):
    postgres.execute("CREATE EXTENSION amcheck")
    yield postgres
    postgres.execute("DROP EXTENSION amcheck")


@pytest.mark.slow
def test_postgres_compares_its_indexes_where_it_may(amcheck, capsys):
    place = amcheck.address()
    buy(place, "a", "b")
    assert main(["check", place]) == 0
    assert capsys.readouterr().out.endswith("as they were written\n")
    ready = f"UPDATE pg_index SET indisready = {{}} WHERE indexrelid = {INDEX}"
    amcheck.execute(
        "CREATE TEMP TABLE kept AS SELECT * FROM caft_ledger.replies WHERE key = 'b'",
        "DELETE FROM caft_ledger.replies WHERE key = 'b'",
        ready.format("false"),
        # Into the table, and not into its index.
        "INSERT INTO caft_ledger.replies SELECT * FROM kept",
        ready.format("true"),
    )
    with Ledger(place, "m") as ledger, pytest.raises(UserError, match="may not be found, and be"):
        ledger.claim([("c", 1.0)], Caps())
    assert main(["check", place]) == 2
    assert 'lacks matching index tuple within index "replies_pkey"' in capsys.readouterr().err
    assert main(["check", place, "--drop"]) == 0
    assert main(["check", place]) == 0
    assert set(read(place, "a", "b")) == {"a", "b"}


@pytest.mark.slow
def test_postgres_says_what_it_could_not_compare_and_what_to_ask_for(postgres, capsys):
    buy(postgres.address(), "a")
    try:
        postgres.execute(
            "CREATE ROLE reader LOGIN", "GRANT USAGE ON SCHEMA caft_ledger TO reader",
            "GRANT SELECT ON ALL TABLES IN SCHEMA caft_ledger TO reader",
        )  # fmt: skip
        place = postgres.address(user="reader")
        for left in ("CREATE EXTENSION amcheck; GRANT", "`GRANT"):
            assert main(["check", place]) == 0
            (line,) = capsys.readouterr().out.splitlines()
            assert f"{left} EXECUTE ON FUNCTION " in line
            # The administrator does as asked.
            postgres.execute(*line.split("`")[1].split("; "))
            assert main(["check", place]) == 0
            assert "not compared" not in capsys.readouterr().out
            postgres.execute(
                "REVOKE EXECUTE ON FUNCTION bt_index_check(regclass, boolean) FROM reader"
            )
    finally:
        postgres.execute(
            "DROP EXTENSION IF EXISTS amcheck", "DROP OWNED BY reader", "DROP ROLE reader"
        )


def make_old(place):
    """The tables of version 2: without checksums."""
    for table in TABLES:
        execute(place, f"ALTER TABLE {table} DROP COLUMN checksum")
    is_file = not isinstance(place, str)
    execute(place, "PRAGMA user_version=2" if is_file else "UPDATE version SET number = 2")


def test_an_old_ledger_keeps_every_reply_and_gets_its_checksums(place, tmp_path, capsys):
    buy(place, *(f"{n:04}" for n in range(1100)))
    make_old(place)
    for _ in range(2):  # reading changes nothing
        assert len(read(place, *(f"{n:04}" for n in range(1100)))) == 1100
    assert main(["check", str(place)]) == 0
    assert "no checksums yet" in capsys.readouterr().out
    copy_ledger(str(place), str(tmp_path / "copy"))
    assert main(["check", str(tmp_path / "copy")]) == 0
    with Ledger(place, "m") as ledger:
        assert len(ledger.replies(f"{n:04}" for n in range(1100))) == 1100
        assert ledger.spending() == Spending(calls=1100, usd=1100.0)
    assert main(["check", str(place)]) == 0
    assert "1,100 replies and what was paid are as they were written" in capsys.readouterr().out


def test_a_check_before_a_run_leaves_an_old_ledger_as_old_as_it_is(make_place, monkeypatch):
    monkeypatch.setattr(migrations_module, "_AT_ONCE", 1)
    place = make_place("sqlite")
    buy(place, "0a", "1b")
    make_old(place)
    check_ledger(place)
    check_ledger(place.with_name("nowhere"))
    assert not place.with_name("nowhere").exists()
    database = open_database(place, reads_only=True)
    assert database.version == 2
    database.close()
    # The run itself signs every row as it is.
    with Ledger(place, "m") as ledger:
        assert set(ledger.replies(["0a", "1b"])) == {"0a", "1b"}
        assert ledger.spending() == Spending(calls=2, usd=2.0)
    assert main(["check", str(place)]) == 0


def test_an_old_ledger_in_use_stays_old_until_its_runs_have_ended(place):
    buy(place, "a")
    ledger = Ledger(place, "m")
    ledger.claim([("b", 1.0)], Caps())
    make_old(place)
    with pytest.raises(UserError, match=r"1 call of an older CAFT in flight"):
        Ledger(place, "m")
    assert set(read(place, "a")) == {"a"}
    ledger.database.close()


def test_a_run_that_starts_during_a_copy_is_noticed(place, tmp_path, monkeypatch):
    buy(place, "a")
    copy_spending = copying_module._copy_spending

    def copy_while_another_buys(*words):
        copy_spending(*words)
        buy(place, "b")

    monkeypatch.setattr(copying_module, "_copy_spending", copy_while_another_buys)
    with pytest.raises(UserError, match=r"1 of its replies \(such as b\) are not in .*copy again"):
        copy_ledger(str(place), str(tmp_path / "copy"))
    monkeypatch.undo()
    assert copy_ledger(str(place), str(tmp_path / "copy")) == Copied(replies=1, known=1)
    assert set(read(tmp_path / "copy", "a", "b")) == {"a", "b"}

"""What a copied ledger has cost: every failed call and every dead client's claim, once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.teachers.ledger import BatchLedger, Ledger
from caft.teachers.ledger import copying as copying_module
from caft.teachers.ledger.copying import Copied, copy_ledger, find_place
from caft.teachers.prices import Caps, Spending
from caft.teachers.replies import LedgerEntry, TeacherReply


def buy(path: Path, *keys: str) -> None:
    with Ledger(path, "m") as ledger:
        ledger.claim([(key, 1.0) for key in keys], Caps())
        ledger.commit([
            LedgerEntry(reply=TeacherReply(key=key, usd=0.25), attempt=0, request="{}",
                        endpoint="e", usage_estimated=False)
            for key in keys
        ])  # fmt: skip


def fail(path: Path) -> None:
    """One call that may have cost 2 USD, and a claim of 1.5 USD whose client is gone."""
    with Ledger(path, "m") as ledger:
        ledger.claim([("x", 2.0)], Caps())
        ledger.give_up("x", "timeout", 2.0)
    gone = Ledger(path, "m", lease_seconds=-1.0)
    gone.claim([("y", 1.5)], Caps())
    gone.database.close()


def spending(path: Path) -> Spending:
    with Ledger(path, "m", reads_only=True) as ledger:
        return ledger.spending()


def test_failures_and_dead_claims_are_copied_with_their_money_and_once(tmp_path: Path) -> None:
    one, two, empty = (tmp_path / name for name in ("one", "two", "empty"))
    buy(one, "a")
    fail(one)
    buy(two, "b")
    for _ in range(2):
        copy_ledger(str(one), str(empty))
        copy_ledger(str(one), str(two))
    assert spending(empty) == Spending(calls=3, usd=0.25, unsure_usd=3.5)
    assert spending(two) == Spending(calls=4, usd=0.5, unsure_usd=3.5)
    with Ledger(two, "m") as ledger:
        found = ledger.database.execute("SELECT key, reason, unsure_usd FROM failures").fetchall()
    assert sorted(found) == [("x", "timeout", 2.0), ("y", "the client died", 1.5)]


def test_what_a_dead_client_had_not_sent_yet_was_no_call(tmp_path: Path) -> None:
    """The ledger itself frees such claims without a cost, and so does its copy."""
    one, two, empty = (tmp_path / name for name in ("one", "two", "empty"))
    buy(one, "a")
    buy(two, "b")
    gone = BatchLedger(one, "m", sends=True)
    gone.lease_seconds = -1.0
    gone.claim([("y", 1.5), ("z", 1.5)], Caps())
    gone.database.close()
    for _ in range(2):
        copy_ledger(str(one), str(empty))
        copy_ledger(str(one), str(two))
    assert spending(empty) == Spending(calls=1, usd=0.25)
    assert spending(two) == Spending(calls=2, usd=0.5)
    with Ledger(one, "m") as ledger:
        assert ledger.claim([("a", 1.0)], Caps()).spending == spending(empty)


def test_what_comes_in_several_bites_is_counted_over_all_of_them(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    buy(one, *(f"{n:04}" for n in range(501)))
    assert copy_ledger(str(one), str(two)) == Copied(replies=501)
    assert copy_ledger(str(one), f"sqlite:///{two}") == Copied(known=501)
    assert Copied(replies=2, known=3, others=1).line() == (
        "copied 2 replies, found 3 there, 1 of them bought there on their own and kept so; "
        "compared 5"
    )


def change(path: Path, statement: str) -> None:
    with Ledger(path, "m") as ledger:
        ledger.database.execute(statement)


def test_a_copy_writes_nothing_to_its_source_which_may_be_open(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    buy(one, "a")
    (count := tmp_path / "one.count").unlink()
    assert copy_ledger(str(one), str(two)).line() == ("copied 1 reply, found 0 there; compared 1")
    assert spending(two) == Spending(calls=1, usd=0.25)
    with Ledger(one, "m") as idle:
        idle.claim([("b", 1.0)], Caps())
        idle.release(["b"])
        count.unlink()
        assert copy_ledger(str(one), str(two)) == Copied(known=1)
        assert not count.exists()


def test_replies_that_both_bought_are_counted_over_all_bites(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(copying_module, "_AT_ONCE", 1)
    one, two = tmp_path / "one", tmp_path / "two"
    buy(one, "a", "b", "c")
    buy(two, "a", "b")
    assert copy_ledger(str(one), str(two)) == Copied(replies=1, known=2, others=2)


@pytest.mark.parametrize("table", ["replies", "spending", "failures"])
@pytest.mark.parametrize("side", ["one", "two"])
def test_damage_on_either_side_is_named(tmp_path: Path, side: str, table: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    buy(one, "a")
    fail(one)
    copy_ledger(str(one), str(two))
    change(tmp_path / side, f"UPDATE {table} SET model = 'n' WHERE model = 'm'")
    told = rf"{re.escape(str(tmp_path / side))} is damaged: \d of the {table} read \("
    if (side, table) == ("two", "failures"):  # more of them than there were, and none is lost
        assert copy_ledger(str(one), str(two)) == Copied(known=1)
    else:
        with pytest.raises(UserError, match=told):
            copy_ledger(str(one), str(two))


def test_a_database_that_loses_what_it_is_given_gets_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    buy(one, "a", "b")
    change(two, "CREATE TRIGGER lose AFTER INSERT ON replies "
           "BEGIN DELETE FROM replies WHERE key = 'b'; END")  # fmt: skip
    with pytest.raises(UserError, match=r"two does not give back reply b as it was written"):
        copy_ledger(str(one), str(two))
    assert spending(two) == Spending()
    with Ledger(two, "m") as ledger:
        assert not ledger.replies(["a"])


def test_a_fault_of_the_source_is_not_one_of_the_target(tmp_path: Path) -> None:
    one = tmp_path / "one"
    buy(one, "a")
    change(one, "ALTER TABLE failures RENAME TO lost")
    with pytest.raises(UserError, match=rf"{re.escape(str(one))} cannot be used \(no such table"):
        copy_ledger(str(one), str(tmp_path / "two"))


def test_a_call_that_fails_during_a_copy_is_told_though_no_reply_lacks(
    tmp_path: Path, monkeypatch: Any
) -> None:
    one, copy_spending = tmp_path / "one", copying_module._copy_spending
    buy(one, "a")

    def copy_while_another_fails(*given: Any) -> None:
        copy_spending(*given)
        fail(one)

    monkeypatch.setattr(copying_module, "_copy_spending", copy_while_another_fails)
    with pytest.raises(UserError, match=r"copied: 0 of its replies are not in .*two, all others"):
        copy_ledger(str(one), str(tmp_path / "two"))


def test_a_place_is_a_file_or_the_address_of_a_database(tmp_path: Path) -> None:
    for address in ("postgresql://host/db", "postgres://host/db"):
        assert find_place(address) == address
    assert find_place("~/l") == Path.home() / "l"
    assert find_place(f"sqlite:///{tmp_path}/a/../l") == tmp_path.resolve() / "l"
    for text in ("", ".", "mysql://name:***@host/db", "sqlite:///mysql://host/db"):
        with pytest.raises(UserError, match=re.escape(f"{text!r} is no ledger; give a file, or")):
            find_place(text.replace("***", "secret"))

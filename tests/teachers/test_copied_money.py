"""What a copied ledger has cost: every failed call and every dead client's claim, once."""

from __future__ import annotations

from pathlib import Path

from caft.teachers.ledger import BatchLedger, Ledger
from caft.teachers.ledger.copying import Copied, copy_ledger
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
        "copied 2 replies, 3 were there already, 1 of them bought there on their own and kept so; "
        "all 5 were compared"
    )

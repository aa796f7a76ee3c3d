"""One bit of a claim that changed on the disk buys nothing twice and forgets no money.

Without a checksum each field did harm: with another key, owner, process or time a request looked
free, or held for ever, and its reply was not counted; with another model or price a cap let through
more than it allowed; with another machine a provider's batch looked gone, and was given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_checksums import entry, execute, flip

from caft.errors import UserError
from caft.teachers.ledger import BatchLedger, Ledger, Place
from caft.teachers.ledger.__main__ import main
from caft.teachers.ledger.claims import Claim
from caft.teachers.ledger.copying import copy_ledger
from caft.teachers.ledger.tables import TABLES, select
from caft.teachers.prices import Caps, Spending

FIELDS = (*TABLES["claims"], "checksum")
each_field = pytest.mark.parametrize("field", FIELDS)
NOT_CHANGED = Spending(calls=1, reserved_usd=2.0, in_flight=1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    return make_place(request.param)


@contextmanager
def damage(place: Place, field: str) -> Iterator[None]:
    """One bit of the only claim that there is, which is as it was afterwards."""
    (row,) = execute(place, select("claims", 4))
    value = row[FIELDS.index(field)]
    execute(place, f"UPDATE claims SET {field} = ?", flip(value))
    yield
    execute(place, f"UPDATE claims SET {field} = ?", value)


def refused() -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=r"is damaged: 1 of the claims read \(.*\) changed on the")


@each_field
def test_nobody_buys_while_a_claim_is_damaged(place: Place, tmp_path: Path, field: str) -> None:
    with Ledger(place, "m") as one, Ledger(place, "m") as other:
        one.claim([("a", 2.0)], Caps())
        with damage(place, field):
            for ledger in (one, other):
                with refused():
                    ledger.claim([("a", 2.0), ("b", 2.0)], Caps())
                with refused():
                    ledger.spending()
            assert not one.hold("a")  # so it is not sent after a sleep
            one.renew()  # which does not make it look sound
            with refused():
                other.claim([("b", 2.0)], Caps())
            assert main(["check", str(place)]) == 2
            with refused():
                copy_ledger(str(place), str(tmp_path / "copy"))
        assert other.claim([("a", 2.0)], Caps()).held == ["a"]
        assert other.spending() == NOT_CHANGED


@each_field
def test_what_a_damaged_claim_bought_is_kept_and_its_money_counted(
    place: Place, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to its highest cost where nobody can know what it was."""
    with Ledger(place, "m") as ledger:
        ledger.claim([("a", 2.0)], Caps())
        (row,) = execute(place, select("claims", 4))
        damaged = flip(row[FIELDS.index(field)])
        execute(place, f"UPDATE claims SET {field} = ?", damaged)
        ledger.commit([entry("a", usd=1.0)])
    # A client that does not find its claim any more cannot say what its reply has cost.
    is_lost = field in ("key", "owner")
    assert len(execute(place, select("claims", 4))) == is_lost
    if is_lost:
        with Ledger(place, "m") as ledger, refused():
            ledger.claim([("b", 2.0)], Caps())
    assert main(["check", str(place), "--drop"]) == 0
    assert ("dropped 1 of the claims" in capsys.readouterr().out) == is_lost
    expected = Spending(calls=1, unsure_usd=2.0) if is_lost else Spending(calls=1, usd=1.0)
    with Ledger(place, "m") as ledger:
        assert ledger.spending() == expected
        assert [each.key for each in ledger.claim([("a", 2.0)], Caps()).bought] == ["a"]


def test_a_closing_client_leaves_a_damaged_claim_to_be_told_of(place: Place) -> None:
    with Ledger(place, "m") as ledger:
        ledger.claim([("a", 2.0), ("b", 2.0)], Caps())
        execute(place, "UPDATE claims SET reserved_usd = 0.5 WHERE key = 'a'")
    assert [row[0] for row in execute(place, select("claims", 4))] == ["a"]
    assert main(["check", str(place), "--drop"]) == 0
    with Ledger(place, "m") as ledger:
        assert ledger.spending() == Spending(calls=2, unsure_usd=2.5)
        assert ledger.claim([("a", 2.0)], Caps()).taken == ["a"]


@pytest.mark.parametrize(("column", "key"), [("key", "\\udcff"), ("model", "a")])
def test_a_claim_whose_text_is_no_text_is_dropped_and_counted(
    make_place: Callable[[str], Place], column: str, key: str
) -> None:
    """As one bit in eight makes it, which SQLite takes."""
    place = make_place("sqlite")
    Ledger(place, "m").claim([("a", 2.0)], Caps())
    execute(place, f"UPDATE claims SET {column} = CAST(x'ff' AS TEXT)")
    assert main(["check", str(place), "--drop"]) == main(["check", str(place)]) == 0
    ((found, cost),) = execute(place, "SELECT key, unsure_usd FROM failures")
    assert (found, cost) == (key, 2.0)


@pytest.mark.parametrize("also", ["", "checksum"])
def test_a_claim_with_another_model_counts_where_a_cap_sees_it(place: Place, also: str) -> None:
    """Its own model's, as the checksum proves; every one's where that changed, too."""
    with Ledger(place, "m") as ledger, Ledger(place, "n") as other:
        other.claim([("b", 1.0)], Caps())
        other.commit([entry("b", usd=1.0)])
        ledger.claim([("a", 2.0)], Caps())
        execute(place, "UPDATE claims SET model = 'k'")
        if also:
            execute(place, "UPDATE claims SET checksum = '0'")
    assert main(["check", str(place), "--drop"]) == main(["check", str(place)]) == 0
    for model, calls, usd, unsure in (("m", 1, 0.0, 2.0), ("n", 1, 1.0, 2.0 if also else 0.0)):
        with Ledger(place, model) as ledger:
            assert ledger.spending() == Spending(calls=calls, usd=usd, unsure_usd=unsure)
            assert ledger.claim([("a", 2.0)], Caps(usd=3.5)).taken == ([] if unsure else ["a"])


def hand_over(place: Place) -> None:
    sender = BatchLedger(place, "m", sends=True)
    sender.claim([("a", 2.0)], Caps())
    assert sender.hand_over("file-1", 1, "batch-1")
    (batch,) = sender.find_batches(["a"])
    sender.note_created(batch, "provider-1")
    sender.close()


@each_field
def test_a_batch_with_a_damaged_claim_is_neither_read_nor_sent_again_nor_given_up(
    place: Place, field: str
) -> None:
    hand_over(place)
    with BatchLedger(place, "m", sends=True) as ledger:
        (batch,) = ledger.find_batches(["a"])
        with damage(place, field):
            for work in (
                lambda: ledger.find_batches(["a"]),
                lambda: ledger.claim([("a", 2.0)], Caps()),
                lambda: ledger.take_over(batch, 0.0),
                lambda: ledger.hand_over("file-2", 0, "batch-2"),
                lambda: ledger.forget("provider-1"),
            ):
                with refused():
                    work()
        assert ledger.find_batches(["a"])[0].batch == batch.batch == "provider-1"
        ledger.commit_from(batch, [entry("a", usd=0.5)])
        assert ledger.spending() == Spending(calls=1, usd=0.5)


def make_version_3(place: Place) -> None:
    execute(place, "ALTER TABLE claims DROP COLUMN checksum")
    is_file = not isinstance(place, str)
    execute(place, "PRAGMA user_version=3" if is_file else "UPDATE version SET number = 3")


def test_an_old_ledger_keeps_the_claims_of_its_batches(place: Place) -> None:
    hand_over(place)
    make_version_3(place)
    with BatchLedger(place, "m", reads_only=True) as ledger:  # which changes nothing
        assert ledger.find_batches(["a"])[0].batch == "provider-1"
    with BatchLedger(place, "m") as ledger:
        assert ledger.find_batches(["a"])[0].batch == "provider-1"
        assert ledger.spending() == Spending(calls=1, reserved_usd=2.0)
    assert len(execute(place, select("claims", 4))[0]) == len(Claim._fields) + 1
    assert main(["check", str(place)]) == 0


@pytest.mark.parametrize("sent", [False, True])
def test_an_old_ledger_waits_for_clients_that_still_write_to_their_claims(
    place: Place, sent: bool
) -> None:
    """An older CAFT renews without a checksum, and writes down how its batch is named."""
    old = BatchLedger(place, "m", sends=True)
    old.claim([("a", 2.0)], Caps())
    if sent:
        assert old.hand_over("file-1", 1, "batch-1")
    make_version_3(place)
    with pytest.raises(UserError, match="1 call of an older CAFT in flight"):
        Ledger(place, "m")
    old.database.close()

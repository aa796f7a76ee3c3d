"""What a ledger knows of batches: who owns their claims, since when, and what ends them."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.teachers.ledger import BatchLedger, Ledger
from caft.teachers.ledger.batches import KEPT_SECONDS, forget_batch
from caft.teachers.prices import Caps, Spending
from caft.teachers.replies import LedgerEntry, TeacherReply


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "l"


def send(place: Path, name: str, file: str, *keys: str, ago: float = 0.0) -> None:
    """A batch that another client handed over `ago` seconds ago, at 2 USD a request at most."""
    with BatchLedger(place, "m", sends=True) as ledger:
        claimed = ledger.claim([(key, 2.0) for key in keys], Caps())
        assert claimed.taken == list(keys)
        assert ledger.hand_over(file, len(keys), name)
        claims = ledger.claims.read_sound("owner = ?", name)
        ledger.claims.change(each._replace(expires=each.expires - ago) for each in claims)


def entry(key: str) -> LedgerEntry:
    return LedgerEntry(
        reply=TeacherReply(key=key, usd=0.25), attempt=0, request="{}", endpoint="e",
        usage_estimated=False,
    )  # fmt: skip


def failures(ledger: Ledger) -> list[tuple[object, ...]]:
    query = "SELECT key, model, reason, unsure_usd FROM failures ORDER BY key"
    return ledger.database.execute(query).fetchall()


def test_the_batches_of_some_requests_are_found_the_oldest_first(place: Path) -> None:
    send(place, "batch-young", "file-1", "a", ago=1000.0)
    send(place, "batch-old", "file-2", "b", "c", ago=2000.0)
    with BatchLedger(place, "m") as ledger:
        ledger.claim([("live", 1.0)], Caps())
        old, young = ledger.find_batches(["a", "b", "c", "live", "nowhere"])
        assert (old.id, old.file, old.batch, old.keys) == ("batch-old", "file-2", "", {"b", "c"})
        assert (young.id, young.file, young.keys) == ("batch-young", "file-1", {"a"})
        assert (math.floor(old.age / 500), math.floor(young.age / 500)) == (4, 2)
        # Only what was asked for, and what the provider calls it once that is known.
        ledger.note_created(old, "batch_7")
        (old,) = ledger.find_batches(["c"])
        assert (old.file, old.batch, old.keys) == ("file-2", "batch_7", {"c"})
        claimed = ledger.claim([("a", 1.0), ("b", 1.0), ("d", 1.0)], Caps())
        assert (claimed.held, claimed.batched, claimed.taken) == (["a", "b"], 2, ["d"])
        # A batch is no client that asks, and none of its calls is under way.
        assert (claimed.clients, ledger.spending().in_flight) == (1, 2)
        # A client that writes just now keeps nobody from looking.
        with closing(sqlite3.connect(place)) as busy:
            busy.execute("BEGIN IMMEDIATE")
            assert [batch.id for batch in ledger.find_batches("a")] == ["batch-young"]
    with BatchLedger(place, "m", reads_only=True) as reader:
        assert len(reader.find_batches("ac")) == 2
        with pytest.raises(UserError):
            reader.claim([("e", 1.0)], Caps())


def test_claims_are_handed_over_all_or_none(place: Path) -> None:
    with BatchLedger(place, "m", sends=True) as ledger:
        ledger.claim([("a", 1.0), ("b", 1.0)], Caps())
        for count in (1, 3):
            assert not ledger.hand_over("file", count, "batch-1")
        assert not ledger.find_batches("ab")
        # Twice, as where the connection was lost in between.
        assert ledger.hand_over("file", 2, "batch-1")
        assert ledger.hand_over("file", 2, "batch-1")
        (batch,) = ledger.find_batches("ab")
        assert (batch.id, batch.file, batch.keys) == ("batch-1", "file", {"a", "b"})
        # The provider's, which no process of this machine renews or ends.
        kept = ledger.database.execute(
            f"SELECT DISTINCT pid, round(expires - {ledger.database.clock}, -2) FROM claims"
        )
        assert kept.fetchall() == [(0, KEPT_SECONDS)]
    assert spending(place) == Spending(calls=2, reserved_usd=2.0)


def spending(place: Path, model: str = "m") -> Spending:
    with Ledger(place, model, reads_only=True) as ledger:
        return ledger.spending()


def test_what_was_claimed_and_never_sent_costs_nothing_whoever_ends_it(place: Path) -> None:
    with BatchLedger(place, "m", sends=True) as stopped:
        stopped.claim([("a", 1.0), ("b", 1.0)], Caps())
    assert spending(place) == Spending()
    # Of another model, by a client that died; "e" was sent live, and may have been charged.
    for client, keys in ((BatchLedger(place, "n", sends=True), "cd"), (Ledger(place, "n"), "e")):
        client.lease_seconds = -1.0
        client.claim([(key, 1.0) for key in keys], Caps())
        client.database.close()
    with BatchLedger(place, "m") as ledger:
        ledger.claim([("f", 1.0)], Caps())
        assert [row[:2] for row in failures(ledger)] == [("e", "n")]
    assert spending(place, "n") == Spending(calls=1, unsure_usd=1.0)
    # Without `sends` a claim is a call.
    assert spending(place) == Spending(calls=1, unsure_usd=1.0)


def test_one_client_may_create_a_batch_again_once_that_cannot_have_arrived(place: Path) -> None:
    send(place, "batch-1", "file", "a", ago=50.0)
    send(place, "batch-2", "file", "b", ago=50.0)
    with BatchLedger(place, "m") as ledger:
        one, two = (ledger.find_batches(key)[0] for key in "ab")
        assert not ledger.take_over(one, 1000.0)
        assert ledger.take_over(one, 40.0)
        assert not ledger.take_over(one, 40.0)
        assert ledger.find_batches("a")[0].age < 40.0
        # The other is as it was; and one that was created is not created again.
        assert ledger.find_batches("b")[0].age >= 50.0
        ledger.note_created(two, "batch_7")
        assert not ledger.take_over(two, 40.0)


def test_replies_and_failures_of_a_batch_end_its_claims_and_no_others(place: Path) -> None:
    send(place, "batch-1", "file", "a", "b")
    send(place, "batch-2", "file", "c")
    with BatchLedger(place, "m") as ledger:
        ledger.claim([("d", 1.0)], Caps())
        (batch,) = ledger.find_batches("ab")
        for _ in range(2):
            ledger.commit_from(batch, [entry("a")])
            ledger.end(batch, [("c", "lost", 2.0), ("b", "lost", 0.5), ("d", "lost", 2.0)])
        assert failures(ledger) == [("b", "m", "lost", 0.5)]
        assert ledger.spending() == Spending(
            calls=4, usd=0.25, unsure_usd=0.5, reserved_usd=3.0, in_flight=1
        )
        assert ledger.hold("d")  # still this client's own


def test_a_batch_that_was_not_accepted_was_no_call(place: Path) -> None:
    send(place, "batch-1", "file", "a", "b")
    send(place, "batch-2", "file", "c")
    with BatchLedger(place, "m") as ledger:
        (batch,) = ledger.find_batches("ab")
        for _ in range(2):
            ledger.undo(batch)
        assert ledger.spending() == Spending(calls=1, reserved_usd=2.0)
        assert not failures(ledger)


def test_the_batch_that_is_given_up_counts_as_charged_and_the_others_are_named(place: Path) -> None:
    Ledger(place, "m").close()
    with pytest.raises(UserError, match=r"l knows of no batch 'x'; none is out"):
        forget_batch(place, "x")
    send(place, "batch-1", "file-1", "a", "b")
    send(place, "batch-2", "file-2", "c")
    with BatchLedger(place, "m") as ledger:
        ledger.note_created(ledger.find_batches("a")[0], "batch_7")
        ledger.claim([("d", 1.0)], Caps())
        assert ledger.forget("file-1") == (0, 0, ["batch_7", "file-2"])
        assert forget_batch(place, "batch_7") == (
            "batch batch_7 is given up: 2 requests can be bought again, and up to 4.0000 USD "
            "counts as spent on it"
        )
        assert failures(ledger) == [
            (key, "m", "batch batch_7 was given up", 2.0) for key in "ab"
        ]  # fmt: skip
        assert ledger.spending() == Spending(calls=4, unsure_usd=4.0, reserved_usd=3.0, in_flight=1)
        assert ledger.hold("d")
    send(place, "batch-3", "file-3", "e")
    with pytest.raises(UserError, match=r"knows of no batch 'batch_7'; out are file-2, file-3$"):
        forget_batch(place, "batch_7")
    with pytest.raises(UserError, match=r"there is no ledger at .*nowhere; give"):
        forget_batch(place.with_name("nowhere"), "file-2")
    assert not place.with_name("nowhere").exists()

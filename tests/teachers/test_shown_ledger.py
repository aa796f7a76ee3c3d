"""`caft ledger show`: what was bought of each model, at what price, and what is still out."""

from __future__ import annotations

from pathlib import Path

import pytest

from caft.teachers.ledger import BatchLedger, Ledger, Place
from caft.teachers.ledger.__main__ import main
from caft.teachers.prices import Caps
from caft.teachers.replies import LedgerEntry, TeacherReply


def buy(place: Place, model: str, count: int, usd: float) -> None:
    """So many replies, each of 120 tokens in and 60 out."""
    with Ledger(place, model) as ledger:
        keys = [f"{model}-{number}" for number in range(count)]
        ledger.claim([(key, 1.0) for key in keys], Caps())
        replies = [
            TeacherReply(key=key, prompt_tokens=120, completion_tokens=60, usd=usd) for key in keys
        ]
        ledger.commit([
            LedgerEntry(reply=each, attempt=0, request="{}", endpoint="e", usage_estimated=False)
            for each in replies
        ])  # fmt: skip


def show(capsys: pytest.CaptureFixture[str], place: Place) -> list[str]:
    assert main(["show", str(place)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_a_line_a_model(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    buy(place, "gpt-y", 60, 0.0001)
    buy(place, "large", 1, 1234.5)
    assert show(capsys, place) == [
        "gpt-y  60 replies, 60 calls, 7,200 + 3,600 tokens, 0.0060 USD",
        "large  1 reply, 1 call, 120 + 60 tokens, 1,234.50 USD",
    ]


def test_what_failed_and_what_is_out(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    buy(place, "m", 1, 0.25)
    with BatchLedger(place, "m", sends=True) as sender:
        sender.claim([("a", 2.0), ("b", 2.0)], Caps())
        assert sender.hand_over("file-1", 2, "batch-1")
        sender.note_created(sender.find_batches("a")[0], "batch_7")
    with Ledger(place, "m") as asking, Ledger(place, "n") as other:
        asking.claim([("c", 0.5), ("d", 0.5)], Caps())
        asking.give_up("c", "timeout", 0.5)
        other.claim([("e", 0.125)], Caps())
        before = asking.spending()
        assert show(capsys, place) == [
            "m  1 reply, 5 calls, 120 + 60 tokens, 0.2500 USD, 1 failed, up to 0.5000 USD more for "
            "those without a response, 2 calls in batch batch_7, for up to 4.00 USD, 1 call in "
            "flight, for up to 0.5000 USD",
            "n  0 replies, 1 call, 0 + 0 tokens, 0.0000 USD, 1 call in flight, for up to 0.1250 "
            "USD",
        ]
        assert asking.spending() == before


def test_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "l"
    assert main(["show", str(place)]) == 2
    assert "there is no ledger at" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
    Ledger(place, "m").close()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert show(capsys, place) == [f"{place} is empty: nothing was bought yet"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_sum_over_a_damaged_row_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "l"
    buy(place, "m", 2, 0.25)
    with Ledger(place, "m") as ledger:
        ledger.database.execute("UPDATE replies SET prompt_tokens = 9 WHERE key = 'm-1'")
    assert main(["show", str(place)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "1 of the replies read (m-1) changed on the disk" in err

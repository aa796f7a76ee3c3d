"""Accuracy by hand."""

from __future__ import annotations

import pytest

from caft.records import Prediction, Unread
from caft.report.run.accuracy import summarise_accuracy
from caft.report.run.unread import describe_unread
from caft.statistics import wilson_interval


def row(name: str, correct: bool, tokens: int = 1, parsed: str | None = "A") -> Prediction:
    return Prediction(
        question_id=name, text="", parsed=parsed, correct=correct, generated_tokens=tokens
    )


def test_every_number_by_hand_with_unparsable_replies_in_the_denominator():
    rows = [row("a", True), row("b", False, 7, parsed=None), row("c", True), row("d", False)]
    placed = {"a": "easy", "b": "hard", "c": "easy", "d": "hard", "train row": "middle"}
    subjects = {"a": "law", "b": "law", "c": "", "d": "maths"}
    part = summarise_accuracy(rows, placed, subjects, ("easy", "middle", "hard"), 0.95)
    assert (part["value"], part["n"]) == (0.5, 4)
    # Wilson at 2 of 4 with z = 1.96: centre 0.5, reach 1.96 sqrt(1/16 + 3.84/64) / (1 + 3.84/4)
    assert (part["low"], part["high"]) == pytest.approx((0.15, 0.85), abs=5e-4)
    assert (part["unparsable"], part["generated_tokens"]) == (1, 10)
    assert {name: (e["value"], e["n"]) for name, e in part["by_complexity"].items()} == {
        "easy": (1.0, 2),
        "hard": (0.0, 2),
    }
    assert list(part["by_complexity"]) == ["easy", "hard"]
    assert {name: (e["value"], e["n"]) for name, e in part["by_subject"].items()} == {
        "law": (0.5, 2),
        "maths": (0.0, 1),
    }


def test_confidence_is_the_one_that_was_asked_for():
    rows = [row(str(number), number < 8) for number in range(10)]
    part = summarise_accuracy(
        rows, dict.fromkeys("0123456789", "easy"), dict.fromkeys("0123456789", ""), ("easy",), 0.8
    )
    expected = wilson_interval(8, 10, 0.8)
    assert (part["low"], part["high"]) == (expected.low, expected.high)
    assert part["by_subject"] == {}


def test_replies_without_a_readable_answer_are_told_apart():
    outside = [(Unread.outside, said) for said in ("1\x1b3", "0", "0", "x" * 90)]
    missing = [*outside, (Unread.cut, None), (Unread.no_marker, None)]
    rows = [
        Prediction(question_id=str(number), text="", parsed=None, correct=False, generated_tokens=1,
                   unread=unread, marked=marked)
        for number, (unread, marked) in enumerate(missing)
    ]  # fmt: skip
    placed = dict.fromkeys("012345", "easy")
    part = summarise_accuracy(rows, placed, placed, ("easy",), 0.95)
    assert part["unparsable"] == 6
    long = f"{'x' * 40} … (50 more characters)"
    said = {"0": 2, "1\ufffd3": 1, long: 1}
    assert part["unread"] == {"no_marker": 1, "outside": 4, "cut": 1, "said": said}
    assert list(part["unread"]["said"]) == ["0", "1\ufffd3", long]
    assert describe_unread(part) == (
        f"4 outside the allowed answers (“0” 2, “1\ufffd3” 1, “{long}” 1), 1 cut at the limit, "
        "1 no marker"
    )
    readable = summarise_accuracy([row("0", True)], placed, placed, ("easy",), 0.95)
    assert "unread" not in readable
    assert describe_unread(readable) == ""
    # A result of an earlier version.
    assert describe_unread({**readable, "unparsable": 3}) == "3 for unknown reasons"

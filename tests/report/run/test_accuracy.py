"""Accuracy by hand."""

from __future__ import annotations

import pytest

from caft.records import Prediction
from caft.report.run.accuracy import summarise_accuracy
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

"""A best mode that never looks at test rows."""

from __future__ import annotations

import inspect

import pytest

from caft.evaluate.predictions import pick_best_mode
from caft.records import Prediction


def row(name: str, correct: bool, tokens: int = 1) -> Prediction:
    return Prediction(
        question_id=name, text="", parsed=None, correct=correct, generated_tokens=tokens
    )


def test_the_mode_with_most_right_validation_rows_wins():
    modes = {
        "answer": [row("a", True), row("b", False)],
        "rationale": [row("a", True, 90), row("b", True, 90)],
    }
    assert pick_best_mode(modes) == "rationale"
    # Rows of the validation split are all that it is ever given.
    assert list(inspect.signature(pick_best_mode).parameters) == ["validation"]


@pytest.mark.parametrize("order", [("rationale", "routed", "answer"), ("answer", "rationale")])
def test_of_equally_good_modes_the_cheaper_one_wins(order):
    tokens = {"answer": 1, "routed": 20, "rationale": 90}
    modes = {name: [row("a", True, tokens[name]), row("b", False)] for name in order}
    assert pick_best_mode(modes) == "answer"

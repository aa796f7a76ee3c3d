"""Generated problems of GSM8K's kind; skipped where their package is not installed."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import Any

import pytest

from caft.data import load_questions
from caft.data.config import GsmSymbolicConfig
from caft.errors import UserError


def config(**dials: Any) -> GsmSymbolicConfig:
    return GsmSymbolicConfig(
        **{"name": "gsm_symbolic", "train": 40, "validation": 10, "test": 20, **dials}
    )


def test_questions_are_distinct_solved_and_drawn_by_their_seed() -> None:
    pytest.importorskip("reasoning_gym", reason="needs the extra [gsm_symbolic]")
    splits = load_questions(config())
    every = [question for _, questions in splits.parts() for question in questions]
    assert [len(questions) for _, questions in splits.parts()] == [40, 10, 20]
    assert len({question.text for question in every}) == len({q.id for q in every}) == 70
    for question in every:
        assert "final answer" not in question.text
        assert question.rationale is not None
        numbers = re.findall(r"\d[\d,]*\.?\d*", question.rationale)
        gold = Fraction(str(question.gold_text))
        assert gold in {Fraction(number.replace(",", "").rstrip(".")) for number in numbers}
    assert load_questions(config()).fingerprint == splits.fingerprint
    other = load_questions(config(seed=1))
    assert not {q.text for q in other.test} & {question.text for question in every}
    # The held-out questions do not depend on how many are trained on.
    assert load_questions(config(train=7)).test_fingerprint == splits.test_fingerprint


def test_a_solution_without_its_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("reasoning_gym", reason="needs the extra [gsm_symbolic]")
    made = package.create_dataset

    def spoilt(*words: Any, **dials: Any) -> list[Any]:
        items = [*itertools.islice(made(*words, **dials), 60)]
        items[30]["metadata"]["answer_cot"] = "So it is twelve."
        return items

    monkeypatch.setattr(package, "create_dataset", spoilt)
    with pytest.raises(UserError, match=r", item 30: answer 'So it .* does not end in '#### NUMB"):
        load_questions(config())


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="generated questions have no end: give three numbers"):
        config(train=None)
    # As find_spec sees a package that is not there.
    monkeypatch.setattr("caft.data.gsm_symbolic.find_spec", lambda _name: None)
    with pytest.raises(UserError, match="pip install 'reasoning-gym>="):
        load_questions(config())

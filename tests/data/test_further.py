"""Further data sets: their test questions, without those that the run trains."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from caft.data import load_questions
from caft.data.config import ArithmeticConfig, ColumnsConfig, LocalConfig
from caft.data.further import load_further
from caft.errors import UserError
from caft.text.config import PromptConfig

GIVEN = ArithmeticConfig(name="arithmetic", train=30, validation=5, test=20)


def write(path: Path, count: int) -> str:
    rows = [{"question": f"What is {n} + 0?", "answer": str(n)} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def local(path: str, **settings: object) -> LocalConfig:
    columns = ColumnsConfig(options=None)
    return LocalConfig(name="mine", test_path=path, columns=columns, **settings)  # type: ignore[arg-type]


def test_only_test_questions_are_taken() -> None:
    found = load_further(GIVEN, ())
    assert tuple(found.questions) == load_questions(GIVEN).test
    assert found.in_training == 0


def test_what_is_trained_is_left_out_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    test = load_questions(GIVEN).test
    with caplog.at_level(logging.WARNING):
        found = load_further(GIVEN, test[3:7])
    assert tuple(found.questions) == (*test[:3], *test[7:])
    assert found.in_training == 4
    assert "4 of 20 test questions stand in the training questions and are left out" in caplog.text


def test_a_set_that_is_trained_as_a_whole_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"evaluation\.also, arithmetic: every test question \(20\) stands"
    ):
        load_further(GIVEN, load_questions(GIVEN).test)


def test_a_file_of_test_questions_needs_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", 12)
    assert len(load_further(local(path), ()).questions) == 12
    drawn = load_further(local(path, test=5), ()).questions
    assert len(drawn) == 5
    assert drawn == load_further(local(path, test=5), ()).questions


def test_what_is_wrong_in_a_file_names_the_set(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", 3)
    shots = PromptConfig(shots=2)
    for config, said in (
        (local(path, test=9), r"dataset\.test is 9, but .* 3 of the questions can be drawn"),
        (local(path, prompt=shots), r"prompt\.shots is 2, and test_path stands alone; set"),
        (local(str(tmp_path / "none.jsonl")), r"dataset\.test_path"),
    ):
        with pytest.raises(UserError, match=f"^evaluation.also, mine: .*{said}"):
            load_further(config, ())

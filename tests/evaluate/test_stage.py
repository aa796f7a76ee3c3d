"""An evaluation that is cut off goes on where it stopped, and two processes are like one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caft.evaluate.stage import ReplyInputs
from caft.models import generation
from caft.models.config import Architecture
from caft.models.sampling import GREEDY, Sampling
from caft.models.student import Student
from caft.records import Prediction, Question
from caft.signals import watch_signals
from caft.store import Store
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted
from caft.trainers.config import TrainerConfig
from caft.trainers.replies import ReplyModule

QUESTIONS = [
    Question(id=f"q{n}", text=f"What is {n} + 3?" + " Well?" * (n % 5), gold_text=str(n + 3))
    for n in range(10)
]


@pytest.fixture(scope="module")
def student(tiny_student: Callable[..., Student]) -> Student:
    return tiny_student(architecture=Architecture.qwen2)


def write(
    student: Student, folder: Path, devices: int = 1, sampling: Sampling = GREEDY
) -> list[Prediction]:
    return ReplyInputs.read(Store(folder).obtain(replying(student, devices, sampling)).folder)


def replying(student: Student, devices: int = 1, sampling: Sampling = GREEDY) -> ReplyInputs:
    return ReplyInputs(
        student=student,
        questions=QUESTIONS,
        shots=(),
        prompt=PromptConfig(),
        wanted=Wanted.rationale,
        max_new_tokens=6,
        batch_size=3,
        trainer=TrainerConfig(accelerator="cpu", progress=False, devices=devices),
        sampling=sampling,
    )


def test_a_worked_solution_is_in_the_key_only_where_the_prompt_shows_it(student: Student) -> None:
    def solve(*questions: Question) -> list[Question]:
        return [replace(each, rationale="3 + 4 = 7") for each in questions]

    asked = replace(replying(student), questions=QUESTIONS[1:], shots=QUESTIONS[:1])
    assert replace(asked, questions=solve(*QUESTIONS[1:])).key == asked.key
    shown = replace(asked, shots=solve(*QUESTIONS[:1]))
    assert shown.encode(asked.wanted) != asked.encode(asked.wanted)
    assert shown.key["shots"] != asked.key["shots"]


DRAWN = Sampling(temperature=1.0, seed=3)


def test_an_interrupted_evaluation_repeats_no_reply(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(student, tmp_path / "whole", sampling=DRAWN)
    asked: list[str] = []
    step = ReplyModule.predict_step

    def counted(self: ReplyModule, batch: Any, batch_idx: int) -> Any:
        if len(asked) == 6:
            raise KeyboardInterrupt
        replies = step(self, batch, batch_idx)
        asked.extend(reply.question_id for reply in replies)
        return replies

    with monkeypatch.context() as patch:
        patch.setattr(ReplyModule, "predict_step", counted)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            write(student, tmp_path / "cut", sampling=DRAWN)
        before, asked[:] = set(asked), []
        assert write(student, tmp_path / "cut", sampling=DRAWN) == whole
    assert len(before) == 6
    assert sorted(asked) == sorted({question.id for question in QUESTIONS} - before)


def test_a_signal_ends_an_evaluation_between_two_tokens(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[int] = []
    write_token = generation._Writer.step

    def signalled(writer: generation._Writer) -> Any:
        tokens.append(1)
        if len(tokens) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return write_token(writer)

    with monkeypatch.context() as patch:
        patch.setattr(generation._Writer, "step", signalled)
        with pytest.raises(SystemExit), watch_signals() as caught:
            write(student, tmp_path / "cut")
    assert (len(tokens), caught.status) == (3, 143)
    assert write(student, tmp_path / "cut") == write(student, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_two_processes_write_what_one_does(
    student: Student, tmp_path: Path, sampling: Sampling
) -> None:
    two = write(student, tmp_path / "two", devices=2, sampling=sampling)
    assert two == write(student, tmp_path / "one", sampling=sampling)


def test_where_a_question_was_read_is_in_no_key_and_what_it_says_is(student: Student) -> None:
    plain = replying(student)

    def key(**change: str) -> dict[str, object]:
        changed = [replace(each, **change) for each in QUESTIONS]
        return replace(plain, questions=changed, shots=changed[:1]).key

    assert key() == key(origin="other.parquet:7")
    assert key() != key(subject="sums")
    assert key() != key(grader="math_verify 0.9.0")


def test_the_seed_is_in_the_key_of_drawn_replies_alone(student: Student) -> None:
    greedy = replying(student).key
    assert "sampling" not in greedy
    assert replying(student, sampling=Sampling(seed=9)).key == greedy
    drawn = [replying(student, sampling=Sampling(temperature=0.6, seed=s)).key for s in (1, 2)]
    assert drawn[0] != drawn[1]
    assert drawn[0].keys() - greedy.keys() == {"sampling"}

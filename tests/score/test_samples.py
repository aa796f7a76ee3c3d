"""Drawn chains of thought: what they say of a question, and that they are kept by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caft.models.config import Architecture
from caft.models.sampling import Sampling
from caft.models.student import Student
from caft.records import Question, SampledReply, WrittenReply
from caft.score.config import ChainConfig
from caft.score.read import read_sample
from caft.score.samples import estimate_samples, largest_agreement
from caft.score.stage import SampleInputs
from caft.store import Store
from caft.text.config import PromptConfig
from caft.text.parsing import answers_agree
from caft.trainers.config import TrainerConfig
from caft.trainers.replies import ReplyModule


def replies(question: str, *answers: tuple[str | None, bool]) -> list[SampledReply]:
    return [
        SampledReply(
            question_id=question, sample=number, text="", parsed=parsed, correct=correct,
            generated_tokens=3,
        )
        for number, (parsed, correct) in enumerate(answers)
    ]  # fmt: skip


def test_both_estimates_by_hand() -> None:
    rows = [
        *replies("sure", ("7", True), ("7", True), ("7", True), ("7", True)),
        # The most frequent answer is a wrong one; the reply without an answer counts as one of 4.
        *replies("wrong", ("7", True), ("9", False), ("9", False), (None, False)),
        *replies("mute", (None, False), (None, False), (None, False), (None, False)),
    ]
    questions = [Question(id=name, text="", gold_text="7") for name in ("sure", "wrong", "mute")]
    assert estimate_samples(rows, questions) == {
        "answer_frequency": {"sure": 1.0, "wrong": 0.5, "mute": 0.0},
        "pass_rate": {"sure": 1.0, "wrong": 0.25, "mute": 0.0},
    }


def test_drawn_answers_are_grouped_as_their_question_is_graded() -> None:
    rows = replies("q", (r"\sqrt{8}", True), (r"2\sqrt{2}", True), ("3", False), (None, False))
    frequency = {
        grader: estimate_samples(
            rows, [Question(id="q", text="", gold_text=r"\sqrt{8}", grader=grader)]
        )["answer_frequency"]["q"]
        for grader in ("", "math_verify 0.9.0 1.11.0", "no_module:never_called 0")
    }
    # Nobody's own function is asked: it compares with a gold answer.
    assert list(frequency.values()) == [0.25, 0.5, 0.25]


@pytest.mark.parametrize(
    ("answers", "most"),
    [
        (["7", "7.0", "$7", "8"], 3),
        (["Emma", "emma ", "Persuasion"], 2),
        (["A", "B", "B", None], 2),
        # in whatever order they were drawn
        (["(3,000)", "3000"], 2),
        (["3000", "(3,000)"], 2),
        ([None], 0),
    ],
)
def test_answers_that_agree_are_one_answer(answers: list[str | None], most: int) -> None:
    assert largest_agreement(answers, answers_agree) == most


QUESTIONS = [
    Question(id=f"q{n}", text=f"What is {n} + 3?" + " Well?" * (n % 3), gold_text=str(n + 3))
    for n in range(5)
]


@pytest.fixture(scope="module")
def student(tiny_student: Callable[..., Student]) -> Student:
    return tiny_student(architecture=Architecture.qwen2)


def sampling(student: Student, rows: int = 4, devices: int = 1) -> SampleInputs:
    return SampleInputs(
        student=student,
        questions=QUESTIONS,
        shots=(),
        prompt=PromptConfig(),
        trainer=TrainerConfig(accelerator="cpu", progress=False, devices=devices),
        config=ChainConfig(max_new_tokens=4, batch_size=rows),
        count=3,
        sampling=Sampling(temperature=1.0, seed=4),
    )


def write(folder: Path, inputs: SampleInputs) -> list[SampledReply]:
    return SampleInputs.read(Store(folder).obtain(inputs).folder)


def test_samples_are_kept_by_number_through_an_interruption_and_whatever_the_rows(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(tmp_path / "whole", sampling(student))
    assert [(row.question_id, row.sample) for row in whole] == [
        (question.id, number) for question in QUESTIONS for number in range(3)
    ]
    for question in QUESTIONS:
        assert len({row.text for row in whole if row.question_id == question.id}) == 3
    written: list[tuple[str, int]] = []
    step = ReplyModule.predict_step

    def counted(self: ReplyModule, batch: Any, batch_idx: int) -> Any:
        if len(written) == 4:
            raise KeyboardInterrupt
        rows = step(self, batch, batch_idx)
        written.extend((row.question_id, row.sample) for row in rows)
        return rows

    # The number of rows is no part of what a draw depends on, but of the key.
    with monkeypatch.context() as patch:
        patch.setattr(ReplyModule, "predict_step", counted)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            write(tmp_path / "cut", sampling(student, rows=7))
        before, written[:] = set(written), []
        assert len(before) == 4
        patch.setattr(ReplyModule, "predict_step", step)
        assert write(tmp_path / "cut", sampling(student, rows=7)) == whole


@pytest.mark.slow
def test_two_processes_draw_what_one_does(student: Student, tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", sampling(student)), sampling(student, devices=2)
    assert write(tmp_path / "2", two) == one


def test_an_answer_inside_an_unfinished_thinking_span_is_none(student: Student) -> None:
    tokenizer = student.tokenizer

    def read(text: str, *, opened: bool) -> SampledReply:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        reply = WrittenReply("q0", text, len(ids), ids, [], [], [], sample=2)
        return read_sample(QUESTIONS[0], reply, PromptConfig(), tokenizer, opened=opened)

    assert read("so [[3]]", opened=True).parsed is None
    found = read("so [[4]] </think> no: [[3]]", opened=True)
    assert (found.parsed, found.correct, found.sample) == ("3", True, 2)
    assert read("so [[3]]", opened=False).correct

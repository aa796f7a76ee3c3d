"""An engine's replies count once they were compared with ours, and are kept under its own key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from caft.engines.config import ServerEngineConfig
from caft.engines.open import open_engine
from caft.errors import UserError
from caft.evaluate.gate import GateInputs, GateRow, refuse_disagreement
from caft.evaluate.stage import ReplyInputs
from caft.models.student import Student
from caft.records import Question, WrittenReply
from caft.store import Store, digest
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted
from caft.trainers.config import TrainerConfig
from engines.fake_completions import FakeModelServer

QUESTIONS = [Question(id=f"q{n}", text=f"What is {n} + 3?", gold_text=str(n + 3)) for n in range(5)]


@pytest.fixture(scope="module")
def students(tiny_student: Callable[..., Student]) -> list[Student]:
    """The same model with two sets of weights."""
    return [tiny_student(weights_seed=seed) for seed in range(2)]


def asked(student: Student, **changes: Any) -> ReplyInputs:
    inputs = ReplyInputs(
        student=student,
        questions=QUESTIONS,
        shots=(),
        prompt=PromptConfig(),
        wanted=Wanted.rationale,
        max_new_tokens=6,
        batch_size=3,
        trainer=TrainerConfig(accelerator="cpu", progress=False),
    )
    return replace(inputs, **changes)


def row(ours: str, theirs: str, *answers: str | None) -> GateRow:
    return GateRow("q", ours, theirs, answers[0], answers[1], None)


@pytest.mark.parametrize(
    ("given", "same_reply", "same_answer"),
    [
        (row(" [[7]]", "[[7]] ", "7", "7"), True, True),
        (row("so [[7]]", "or [[7]]", "7", "7"), False, True),
        (row("so [[7]]", "so [[8]]", "7", "8"), False, False),
        (row("so [[7]]", "so", "7", None), False, False),
        (row("nothing", "nothing", None, None), True, True),
        (row("nothing", "no more", None, None), False, False),
    ],
)
def test_what_is_equal(given: GateRow, same_reply: bool, same_answer: bool) -> None:
    assert (given.same_reply, given.same_answer) == (same_reply, same_answer)


def test_the_bound_is_reached_by_as_many_and_missed_by_one_less() -> None:
    rows = [row("[[1]]", "[[1]]", "1", "1")] * 9 + [row("a\n[[1]]", "b [[2]]", "1", "2")]
    refuse_disagreement(rows, 0.9, engine="vllm", whose="base")
    with pytest.raises(UserError) as refused:
        refuse_disagreement(rows[1:], 0.9, engine="vllm", whose="base")
    message = str(refused.value)
    assert "8 of 9 answers" in message
    assert "ours 'a [[1]]', its 'b [[2]]'" in message
    assert "\n" not in message


def test_a_server_with_our_weights_passes_once_and_one_with_others_does_not(
    students: list[Student], tmp_path: Path
) -> None:
    own, other = students
    store = Store(tmp_path)
    with FakeModelServer({"base": own, "other": other}) as server:
        shares = {}
        for name in ("base", "other"):
            config = ServerEngineConfig(base_url=server.base_url, model=name)
            replies = asked(own, engine=open_engine(config, own))
            gate = GateInputs(replies=replies, questions=4)
            rows = gate.read(store.obtain(gate).folder)
            shares[name] = fmean(row.same_answer for row in rows)
        before = len(server.bodies)
        again = GateInputs(replies=asked(own, engine=open_engine(config, own)), questions=4)
        assert store.obtain(again).cached
        assert len(server.bodies) == before
        # The replies that count, and the keys that keep them apart from ours.
        written = store.obtain(asked(own, engine=open_engine(
            ServerEngineConfig(base_url=server.base_url, model="base"), own)))  # fmt: skip
    ours = store.obtain(asked(own))
    assert ReplyInputs.read(written.folder) == ReplyInputs.read(ours.folder)
    assert written.fingerprint != ours.fingerprint
    assert shares["base"] == 1.0
    assert shares["other"] < 0.5


def test_our_own_replies_keep_their_key(students: list[Student]) -> None:
    assert set(asked(students[0]).key) == {
        "student", "questions", "shots", "prompt", "wanted", "max_new_tokens", "batch_size",
        "thinking", "max_thinking_tokens", "sources",
    }  # fmt: skip


class Scripted:
    """An engine that stops in the middle, as a signal stops it."""

    version, key = "1", {"engine": "scripted"}

    def __init__(self, last: int) -> None:
        self.last, self.asked = last, list[str]()

    def check(self, prompt: Sequence[int], most_tokens: int = 0) -> None: ...

    def close(self) -> None: ...

    def write(self, prompts: Mapping[str, tuple[int, ...]], rules: Any) -> Iterator[WrittenReply]:
        for name in prompts:
            if len(self.asked) == self.last:
                raise SystemExit(143)
            self.asked.append(name)
            yield WrittenReply(name, f"{name} [[1]]", 3)


def test_an_engine_that_is_interrupted_repeats_no_reply(
    students: list[Student], tmp_path: Path
) -> None:
    store, first, second = Store(tmp_path), Scripted(2), Scripted(9)
    with pytest.raises(SystemExit):
        store.obtain(asked(students[0], engine=first))
    whole = store.obtain(asked(students[0], engine=second))
    assert first.asked + second.asked == [question.id for question in QUESTIONS]
    assert [reply.text for reply in ReplyInputs.read(whole.folder)] == [
        f"{question.id} [[1]]" for question in QUESTIONS
    ]
    assert whole.fingerprint == digest(asked(students[0], engine=second).key)


def test_what_was_equal_is_logged_and_of_a_long_reply_its_end_is_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    rows = [row("a [[1]]", "b [[1]]", "1", "1"), row("x" * 60, "y" * 60 + "z", None, None)]
    refuse_disagreement(rows, 0.5, engine="vllm", whose="tuned")
    assert caplog.messages == [
        "engine=vllm, tuned model: 1 of 2 answers and 0 replies are equal to ours"
    ]
    with pytest.raises(UserError) as refused:
        refuse_disagreement(rows, 0.51, engine="vllm", whose="tuned")
    assert f"ours '{'x' * 60}', its '...{'y' * 59}z'" in str(refused.value)

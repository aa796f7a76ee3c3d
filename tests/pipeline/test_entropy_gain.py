"""The gain by hand, and where the teacher's entropies come from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.pipeline.entropy_gain import entropy_gains
from caft.pipeline.preflight import list_idle
from caft.pipeline.steps import list_steps
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore
from caft.store import StageKind

Open = Callable[..., Workspace]
WANTED = "score.estimators=[entropy_gain]"
OF_OPTIONS = "score.estimators=[option_entropy_gain]"


def test_the_gain_is_the_difference_but_never_below_nothing() -> None:
    scores = [
        AnswerScore(question_id=name, predicted="", valid=True, correct=True,
                    estimates={"answer_entropy": nats})
        for name, nats in (("a", 2.0), ("b", 0.5), ("test", 1.0))
    ]  # fmt: skip
    assert entropy_gains(scores, {"a": 0.25, "b": 0.75}) == {"a": 1.75, "b": 0.0}


def test_a_local_teacher_makes_one_pass_over_training_questions(open_small: Open) -> None:
    student = open_small()
    workspace = open_small(WANTED, "teacher=local_model", f"teacher.path={student.student.folder}")
    assert StageKind.teacher in [step.kind for step in list_steps(workspace.config)]
    asked = workspace.teacher_scoring
    assert list(asked.questions) == list(workspace.questions.train)
    assert asked.prompt == workspace.base_scoring.prompt
    # The student is its own teacher here: it is asked the same.
    assert asked.rows == workspace.base_scoring.rows[: len(asked.questions)]
    # The student's own scores are kept by the same key as without the estimator.
    assert workspace.base_scoring.key == student.base_scoring.key


def test_a_file_takes_the_place_of_the_pass(open_small: Open, tmp_path: Path) -> None:
    train, path = open_small().questions.train, tmp_path / "teacher.jsonl"
    rows = [json.dumps({"question_id": item.id, "teacher_entropy": 0.5}) for item in train]
    path.write_text("\n".join(rows), encoding="utf-8")
    workspace = open_small(WANTED, f"score.teacher_entropies={path}")
    assert StageKind.teacher not in [step.kind for step in list_steps(workspace.config)]
    path.write_text("\n".join(rows[1:]), encoding="utf-8")
    said = f"has no entropy of 1 of the 8 training questions, such as {train[0].id!r}"
    with pytest.raises(UserError, match=re.escape(said)):
        open_small(WANTED, f"score.teacher_entropies={path}")


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["score.teacher_entropies=mine.jsonl"], "score.teacher_entropies has no effect"),
        (["score.teacher_entropies=mine.jsonl", WANTED], None),
        (["teacher=local_model", "teacher.reask_temperature=1"], "teacher.attempts=2 or more"),
        (["teacher=local_model", "teacher.reask_temperature=1", "teacher.attempts=2"], None),
        (["tuning.start_from=before", "tuning.lora.r=64"], "tuning.lora has no effect"),
        (["tuning.start_from=before"], None),
        (["tuning.lora.r=64"], None),
    ],
)
def test_settings_without_effect_are_told(words: list[str], idle: str | None) -> None:
    said = list(list_idle(compose(words)))
    assert len(said) == bool(idle)
    assert (idle or "") in "".join(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["teacher=worked"], "teacher=worked has none"),
        (["teacher=vllm", "teacher.model=m"], "log-probabilities of the likeliest few tokens only"),
        (["teacher=local_model"], "teacher.path="),
        (["score.teacher_entropies=/no/such.jsonl"], "score.teacher_entropies"),
        ([OF_OPTIONS, "teacher=worked"], "teacher=worked is none; give teacher=openai"),
        ([OF_OPTIONS, "teacher=openai", "teacher.model=m"], "teacher.base_url is not set"),
    ],
)
def test_a_teacher_without_entropies_is_refused_at_once(
    open_small: Open, words: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        open_small(WANTED, *words)

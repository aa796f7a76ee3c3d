"""The gain by hand, and where the teacher's entropies come from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.pipeline.entropy_gain import entropy_gains
from caft.pipeline.preflight import list_idle
from caft.pipeline.steps import list_steps
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore
from caft.split import split_questions
from caft.split.config import EntropySplitConfig
from caft.store import StageKind

Open = Callable[..., Workspace]
WANTED = "score.estimators=[entropy_gain]"
OF_OPTIONS = "score.estimators=[option_entropy_gain]"


def scores_of(entropies: dict[str, float], of: str) -> list[AnswerScore]:
    return [
        AnswerScore(question_id=name, predicted="", valid=True, correct=True, estimates={of: nats})
        for name, nats in entropies.items()
    ]


@pytest.mark.parametrize("of", ["answer_entropy", "option_entropy"])
def test_the_gain_is_the_difference_also_where_the_teacher_is_less_sure(of: str) -> None:
    assert entropy_gains(
        scores_of({"a": 2.0, "b": 0.5, "test": 1.0}, of), {"a": 0.25, "b": 0.75}, of=of
    ) == {"a": 1.75, "b": -0.25}


@pytest.mark.parametrize(
    ("estimator", "of"),
    [("entropy_gain", "answer_entropy"), ("option_entropy_gain", "option_entropy")],
)
def test_a_teacher_that_is_mostly_less_sure_leaves_no_class_empty(estimator: str, of: str) -> None:
    """Gains of -0.5 to 0.375, five of them below 0 or on it; cuts at the places 1.75 and 5.25."""
    scores = scores_of({f"q{place}": place / 8 for place in range(8)}, of)
    gains = entropy_gains(scores, {row.question_id: 0.5 for row in scores}, of=of)
    assert list(gains.values()) == [-0.5, -0.375, -0.25, -0.125, 0.0, 0.125, 0.25, 0.375]
    train = [replace(row, estimates={estimator: gains[row.question_id]}) for row in scores]
    split = split_questions(train, [], EntropySplitConfig(estimator=estimator), seed=0)
    assert split.thresholds == pytest.approx((-0.28125, 0.15625))
    assert list(split.complexity_of.values()) == ["easy"] * 2 + ["middle"] * 4 + ["hard"] * 2


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

"""summary.json out of frozen results, and null for what a run did not reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_runs import TWO_STAGES, score_in_order

from caft.pipeline.results import (
    Evaluated,
    ModeReplies,
    RunResults,
    Scored,
    Taught,
    Tuned,
)
from caft.pipeline.stages import split_scored
from caft.pipeline.summary import build_summary, collect_tables
from caft.pipeline.workspace import Workspace
from caft.records import Mode, Prediction, Question, Rationale, TuningNumbers
from caft.report.check import check_summary
from caft.report.schema import ModelPart, RunPart, StageRecordPart
from caft.store import Artifact, StageKind

Open = Callable[..., Workspace]
RUN: RunPart = {
    "name": "run", "seed": 1, "overrides": [], "git_commit": None,
    "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00",
    "versions": {"python": "3"}, "device": "cpu, float32",
}  # fmt: skip
MODEL: ModelPart = {
    "id": "tiny", "revision": None, "parameters": 7, "trainable_parameters": None
}  # fmt: skip


def summarise(workspace: Workspace, results: RunResults) -> dict:
    tables = collect_tables(workspace.questions, results)
    summary = build_summary(workspace.config, workspace.questions, results, tables, RUN, MODEL)
    check_summary(summary)
    return summary


def record(kind: StageKind, name: str) -> StageRecordPart:
    return {"kind": kind.name, "name": name, "fingerprint": "f", "cached": False,
            "seconds": 1.0, "peak_memory_bytes": 2}  # fmt: skip


def reply(question: Question, correct: bool, tokens: int) -> Prediction:
    return Prediction(question_id=question.id, text="", parsed="1", correct=correct,
                      generated_tokens=tokens)  # fmt: skip


def replies(workspace: Workspace, mode: Mode, right: int, tokens: int) -> ModeReplies:
    """The first `right` validation questions, and as many test questions, are answered right."""
    parts = [
        {mode: [reply(item, n < right, tokens) for n, item in enumerate(part)]}
        for part in (workspace.questions.validation, workspace.questions.test)
    ]
    return ModeReplies(*parts)


NUMBERS = TuningNumbers(
    examples=6,
    dropped=["long"],
    epochs=2,
    prompt_tokens=120,
    trained_tokens=24,
    trained_rationale_tokens=0,
    rationale_tokens={},
    parameters=7,
    trainable_parameters=3,
    curve=[
        {"step": 1, "epoch": 1, "validation_accuracy": 0.5, "validation_questions": 4},
        {"step": 2, "epoch": 2, "validation_accuracy": 0.25, "validation_questions": 4},
    ],
)


def test_a_run_that_stops_after_the_scores_has_them_and_nothing_else(open_small: Open) -> None:
    workspace = open_small("until=score")
    scored = replace(
        score_in_order(workspace.every_question), stages=(record(StageKind.score, "score"),)
    )
    summary = summarise(workspace, RunResults(scored=scored))
    assert summary["score"]["roc_auc"]["answer_entropy"]["n"] == 8
    assert (summary["split"], summary["accuracy"], summary["tuning"]) == (None, None, [])
    assert [stage["name"] for stage in summary["stages"]] == ["score"]
    assert summary["cost"]["teacher_calls"] == 0
    assert summary["model"]["parameters"] == 7


def test_scores_are_not_lost_with_an_estimate_that_is_missing(
    open_small: Open, caplog: pytest.LogCaptureFixture
) -> None:
    # There is no probe of so few mistakes: no row has its estimate.
    workspace = open_small("until=score", "split.estimator=probe")
    scored = score_in_order(workspace.every_question)
    score = summarise(workspace, RunResults(scored=scored))["score"]
    assert score["roc_auc"]["answer_entropy"]["n"] == 8
    assert (score["estimator"], score["accuracy_by_class"]) == ("probe", {})
    assert "the scores are shown without classes: split.estimator is probe, which" in caplog.text
    usual = summarise(open_small("until=score"), RunResults(scored=scored))["score"]
    assert {name: share["n"] for name, share in usual["accuracy_by_class"].items()} == {
        "easy": 2, "middle": 4, "hard": 2,
    }  # fmt: skip


def test_a_teacher_without_anything_to_teach_is_told(open_small: Open) -> None:
    workspace = open_small("until=score")
    results = RunResults(scored=score_in_order(workspace.every_question))
    assert "untaught" not in summarise(workspace, results)["method"]
    train = [replace(question, rationale=" ") for question in workspace.questions.train]
    workspace = replace(workspace, questions=replace(workspace.questions, train=train))
    assert summarise(workspace, results)["method"]["untaught"] is True


def test_every_part_comes_from_the_stage_that_found_it(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES)
    scored: Scored = score_in_order(workspace.every_question)
    split = split_scored(workspace, scored)
    rationale = Rationale(
        question_id=workspace.questions.train[-1].id, text="so [[1]]", answer="1", agrees=True,
        prompt_tokens=10, completion_tokens=5, usd=0.25,
    )  # fmt: skip
    taught = Taught(
        split=split, rationales=[rationale], stages=(record(StageKind.distill, "distill"),)
    )
    tuned = Tuned(
        student=workspace.student,
        weights=Artifact("tune", "f", workspace.context.folder, False, 1.0, 2, {}),
        numbers=(NUMBERS,),
        stages=(record(StageKind.tune, "tune 1"),),
    )
    evaluated = Evaluated(
        by_model={
            "base": replies(workspace, Mode.answer, 1, 1),
            "tuned": replies(workspace, Mode.rationale, 2, 10),
        },
        stages=(record(StageKind.evaluate, "evaluate tuned rationale"),),
    )
    results = RunResults(
        scored=scored, split=split, taught=taught, tuned=tuned, evaluated=evaluated
    )
    summary = summarise(workspace, results)
    assert summary["split"]["counts"] == {"easy": 2, "middle": 4, "hard": 2}
    assert summary["method"]["stages"][0]["examples"] == 6
    # The second stage was not tuned.
    assert summary["method"]["stages"][1]["examples"] is None
    assert summary["tuning"][0]["best_epoch"] == 1
    assert summary["tuning"][0]["dropped_ids"] == ["long"]
    assert summary["model"]["trainable_parameters"] == 3
    assert summary["accuracy"]["best_mode"] == {"base": "answer", "tuned": "rationale"}
    assert summary["accuracy"]["validation"] == {
        "base": {"answer": 0.25},
        "tuned": {"rationale": 0.5},
    }
    assert summary["accuracy"]["tuned"]["rationale"]["n"] == 2
    assert summary["accuracy"]["tuned"]["answer"] is None
    cost = summary["cost"]
    assert (cost["teacher_calls"], cost["teacher_usd"]) == (1, 0.25)
    # Six held-out questions: one token each from the base model, ten from the tuned one.
    assert cost["evaluation_generated_tokens"] == 66
    assert [stage["name"] for stage in summary["stages"]] == [
        "distill", "tune 1", "evaluate tuned rationale"
    ]  # fmt: skip


def test_a_matched_budgets_split_is_the_one_that_is_reported(open_small: Open) -> None:
    workspace = open_small("split=random", "split.match=calls", TWO_STAGES, "until=distill")
    scored = score_in_order(workspace.every_question)
    drawn = split_scored(workspace, scored)
    settled = replace(drawn, complexity_of=dict.fromkeys(drawn.complexity_of, "easy"))
    results = RunResults(scored=scored, split=drawn, taught=Taught(split=settled))
    assert summarise(workspace, results)["split"]["counts"] == {"easy": 8, "middle": 0, "hard": 0}


def test_a_class_that_tuning_lost_is_among_the_warnings(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES, "dataset.test=24")
    scored = score_in_order(workspace.every_question)
    split = split_scored(workspace, scored)
    right, wrong = len(workspace.questions.test), 0
    evaluated = Evaluated(
        by_model={
            "base": replies(workspace, Mode.answer, right, 1),
            "tuned": replies(workspace, Mode.answer, wrong, 1),
        }
    )
    summary = summarise(workspace, RunResults(scored=scored, split=split, evaluated=evaluated))
    compared = summary["accuracy"]["class_comparisons"]
    assert sum(part["n"] for part in compared) == 24
    (warning,) = [text for text in summary["warnings"] if text.startswith("Tuning lost")]
    assert "in answer mode -100.0 points" in warning
    same = Evaluated(by_model=dict.fromkeys(("base", "tuned"), evaluated.by_model["base"]))
    summary = summarise(workspace, RunResults(scored=scored, split=split, evaluated=same))
    assert not any(text.startswith("Tuning lost") for text in summary["warnings"])

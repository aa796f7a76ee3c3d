"""Words of small runs, and scores whose classes are known by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caft.pipeline.results import Scored, Taught
from caft.pipeline.stages import split_scored, teach
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Question
from caft.store import write_table
from scripted_chains import Finished

SMALL = (
    "model=tiny",
    "model.dtype=float32",
    "trainer.accelerator=cpu",
    "dataset.train=8",
    "dataset.validation=4",
    "dataset.test=2",
    "dataset.prompt.shots=2",
)
TWO_STAGES = (
    "method.stages=[{targets:{easy:answer,middle:answer},epochs:1},"
    "{targets:{hard:rationale},epochs:2}]"
)


def score_in_order(questions: Sequence[Question]) -> Scored:
    """Each question is harder than the one before it; every second answer is wrong."""
    return Scored(
        scores=[
            AnswerScore(
                question_id=question.id,
                predicted="1",
                valid=True,
                correct=number % 2 == 0,
                estimates={"answer_entropy": float(number)},
            )
            for number, question in enumerate(questions)
        ]
    )


def finish_scores(stage: Any, rows: Sequence[AnswerScore]) -> Finished:
    """A stage of scores with these rows as its result."""
    return Finished(stage, lambda at: write_table(at / "scores.parquet", AnswerScore, rows))


def teach_all(workspace: Workspace) -> Taught:
    """The stage before tuning, where each question is harder than the one before it."""
    scored = score_in_order(workspace.every_question)
    return teach(workspace, scored, split_scored(workspace, scored))

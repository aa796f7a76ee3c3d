"""What a run has found out so far: filled stage by stage, read by the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from caft.data import QuestionSplits
from caft.models.student import Student
from caft.records import (
    AnswerScore,
    Chain,
    Judgement,
    Mode,
    Prediction,
    Question,
    Rationale,
)
from caft.split import SplitResult
from caft.store import Artifact
from caft.trainers.loggers import RunLogger
from caft.tune.stage import TrainingRows, TuningNumbers


class StageKind(Enum):
    """What a stage of a run makes. Several may be of one kind, each with a name of its own."""

    score = "the base model's scores"
    fallback = "its scores where it may decline"
    chains = "its own chains of thought"
    judge = "a judge's replies about the questions"
    distill = "a teacher's rationales"
    tune = "tuned weights"
    evaluate = "replies to held-out questions"


@dataclass(slots=True)
class Examined:
    """One model's replies by mode, on validation and on test questions."""

    validation: dict[Mode, Sequence[Prediction]] = field(default_factory=dict)
    test: dict[Mode, Sequence[Prediction]] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """Everything known so far; a part that was not reached is None or empty.

    `rows` are the tokens of tuning stages, by number from 0 on, until each is trained; `weights`
    is what the last one left.
    """

    questions: QuestionSplits
    scores: list[AnswerScore] | None = None
    fallback: list[AnswerScore] = field(default_factory=list)
    chains: list[Chain] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    split: SplitResult | None = None
    rationales: list[Rationale] = field(default_factory=list)
    rows: dict[int, TrainingRows] = field(default_factory=dict)
    tuned: Student | None = None
    weights: Artifact | None = None
    tuning: list[TuningNumbers] = field(default_factory=list)
    base_replies: Examined | None = None
    tuned_replies: Examined | None = None
    best_mode: dict[str, str | None] = field(default_factory=dict)
    parameters: int | None = None
    revision: str | None = None
    template: dict[str, str | None] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    logger: RunLogger | None = None

    def note(self, kind: StageKind, name: str, artifact: Artifact) -> None:
        """Write a stage into the run's list of stages; `name` is for people."""
        self.stages.append(
            {
                "kind": kind.name,
                "name": name,
                "fingerprint": artifact.fingerprint,
                "cached": artifact.cached,
                "seconds": artifact.seconds,
                "peak_memory_bytes": artifact.peak_memory_bytes,
            }
        )

    def scores_of(self, questions: Sequence[Question]) -> list[AnswerScore]:
        """The scores of one split, in its order."""
        assert self.scores is not None
        by_id = {score.question_id: score for score in self.scores}
        return [by_id[question.id] for question in questions]

    def splits(self) -> Iterator[tuple[str, Sequence[Question]]]:
        """Names and questions of the three splits."""
        yield "train", self.questions.train
        yield "validation", self.questions.validation
        yield "test", self.questions.test

"""What each stage of a run returns. Frozen: a later stage reads these and changes none.

score -> `Scored`, split -> `SplitResult`, distill -> `Taught`, tune -> `Tuned`,
evaluate -> `Evaluated`; `RunResults` is what a run has when it stops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from caft.models.student import Student
from caft.records import AnswerScore, Chain, Judgement, Mode, Prediction, Question, Rationale
from caft.split import SplitResult
from caft.store import Artifact
from caft.tune.stage import TuningNumbers


class StageKind(Enum):
    """What a stage of a run makes. Several may be of one kind, each with a name of its own."""

    score = "the base model's scores"
    fallback = "its scores where it may decline"
    chains = "its own chains of thought"
    judge = "a judge's replies about the questions"
    distill = "a teacher's rationales"
    tune = "tuned weights"
    evaluate = "replies to held-out questions"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One stage's line in summary.json. Seconds are wall time of all its attempts."""

    kind: StageKind
    name: str
    fingerprint: str
    cached: bool
    seconds: float
    peak_memory_bytes: int

    @property
    def row(self) -> dict[str, Any]:
        """As summary.json has it."""
        return {**asdict(self), "kind": self.kind.name}


def record_stage(kind: StageKind, name: str, artifact: Artifact) -> StageRecord:
    """The line of a stage that the store made or had."""
    return StageRecord(
        kind=kind,
        name=name,
        fingerprint=artifact.fingerprint,
        cached=artifact.cached,
        seconds=artifact.seconds,
        peak_memory_bytes=artifact.peak_memory_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The base model's answers to every question, with all wanted estimates in them.

    The other fields are what single estimators needed beyond that: empty where none did.
    """

    scores: Sequence[AnswerScore]
    fallback: Sequence[AnswerScore] = ()
    chains: Sequence[Chain] = ()
    judgements: Sequence[Judgement] = ()
    rationales: Sequence[Rationale] = ()
    stages: tuple[StageRecord, ...] = ()

    def of(self, questions: Sequence[Question]) -> list[AnswerScore]:
        """The scores of `questions`, in their order."""
        by_id = {score.question_id: score for score in self.scores}
        return [by_id[question.id] for question in questions]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """Rationales, accepted or refused, and the classes that stages train.

    `split` is that of the split stage, or the one that a matched budget settled on.
    """

    split: SplitResult
    rationales: Sequence[Rationale] = ()
    stages: tuple[StageRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The student behind the method's last stage, its weights, and what each stage trained on."""

    student: Student
    weights: Artifact
    numbers: tuple[TuningNumbers, ...]
    stages: tuple[StageRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ModeReplies:
    """One model's replies by mode, on validation and on test questions."""

    validation: Mapping[Mode, Sequence[Prediction]] = field(default_factory=dict)
    test: Mapping[Mode, Sequence[Prediction]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The replies of the base model and, where the method tunes, of the tuned one."""

    base: ModeReplies
    tuned: ModeReplies | None
    stages: tuple[StageRecord, ...] = ()

    @property
    def by_model(self) -> dict[str, ModeReplies]:
        """The replies under "base" and "tuned", without a model that there is none of."""
        both = {"base": self.base, "tuned": self.tuned}
        return {name: replies for name, replies in both.items() if replies is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """The results of all stages up to `until`; None for those behind it.

    `tuned` is None, too, where the method has no stage.
    """

    scored: Scored
    split: SplitResult | None = None
    taught: Taught | None = None
    tuned: Tuned | None = None
    evaluated: Evaluated | None = None

    @property
    def placed(self) -> SplitResult | None:
        """The split in force: a matched budget moves questions while the teacher is asked."""
        return self.taught.split if self.taught else self.split

    @property
    def rationales(self) -> Sequence[Rationale]:
        """Every rationale that was asked for, by the method or by an estimator."""
        return self.taught.rationales if self.taught else self.scored.rationales

    @property
    def stages(self) -> list[StageRecord]:
        """Stages that took work, in the order in which they ran."""
        reached = (self.scored, self.taught, self.tuned, self.evaluated)
        return [record for result in reached if result for record in result.stages]

"""What each stage of a run returns. Frozen: a later stage reads these and changes none.

score -> `Scored`, split -> `SplitResult`, distill -> `Taught`, tune -> `Tuned`,
evaluate -> `Evaluated`; `RunResults` is all that a run has when it stops.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from caft.distill import Chance
from caft.models.student import Student
from caft.packed import by_id, values_of
from caft.pipeline.steps import Step
from caft.records import (
    AnswerScore,
    Chain,
    Judgement,
    Mode,
    Prediction,
    Question,
    Rationale,
    SampledReply,
    TuningNumbers,
)
from caft.report.schema import StageRecordPart
from caft.split import SplitResult
from caft.store import Artifact, Effort, Stage, Store

log = logging.getLogger(__name__)
Result = TypeVar("Result")


def record_stage(step: Step, artifact: Artifact, effort: Effort | None = None) -> StageRecordPart:
    """A stage's line in summary.json; `effort` is the cost of making the result.

    Seconds are wall time of all attempts, and the result's own where it is from the store.
    """
    assert step.kind.value == artifact.stage, f"{step.name} is kept as {artifact.stage}"
    took = effort or artifact
    return {
        "kind": step.kind.name,
        "name": step.name,
        "fingerprint": artifact.fingerprint,
        "cached": artifact.cached,
        "seconds": took.seconds,
        "peak_memory_bytes": took.peak_memory_bytes,
        "tokens_read": took.tokens.read,
        "tokens_trained": took.tokens.trained,
        "tokens_written": took.tokens.written,
    }


def obtain(store: Store, step: Step, stage: Stage[Result]) -> tuple[Result, Artifact]:
    """The result of a stage: from the store, or made now."""
    artifact = store.obtain(stage)
    if artifact.cached:
        log.info("%s: taken from the store", step.name)
    return stage.read(artifact.folder), artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The base model's answers to every question, with all requested estimates.

    The other fields are what single estimators needed in addition; empty if none did.
    """

    scores: Sequence[AnswerScore]
    fallback: Sequence[AnswerScore] = ()
    follow_ups: Mapping[str, Sequence[AnswerScore]] = field(default_factory=dict)
    chains: Sequence[Chain] = ()
    samples: Sequence[SampledReply] = ()
    judgements: Sequence[Judgement] = ()
    rationales: Sequence[Rationale] = ()
    stages: tuple[StageRecordPart, ...] = ()

    @property
    def answers(self) -> dict[str, str]:
        """What the base model answered, by question id."""
        ids = values_of(self.scores, "question_id")
        return dict(zip(ids, values_of(self.scores, "predicted"), strict=True))

    def of(self, questions: Sequence[Question]) -> Sequence[AnswerScore]:
        """The scores of `questions`, in their order."""
        asked = [*values_of(questions, "id")]
        scored = [*values_of(self.scores, "question_id")]
        first = scored.index(asked[0]) if asked else 0
        rows = self.scores[first : first + len(asked)]
        if scored[first : first + len(asked)] == asked:
            return rows
        found = by_id(self.scores, "question_id")
        return [found[name] for name in asked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """Rationales, accepted or refused, and the classes that stages train.

    `rationales` are the teacher's. `own` are the student's, one for each question whose class
    trains one, `tries` the drawn chains of thought that they were taken from, and `chance` what
    chance makes right of these.
    `split` is that of the split stage, or the one that a matched budget settled on.
    """

    split: SplitResult
    rationales: Sequence[Rationale] = ()
    own: Sequence[Rationale] = ()
    tries: Sequence[SampledReply] = ()
    chance: Chance | None = None
    stages: tuple[StageRecordPart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The student after the method's last stage, its weights, and what each stage trained on.

    `rescored` has the classes that a stage made anew, by its number, from 0.
    """

    student: Student
    weights: Artifact
    numbers: tuple[TuningNumbers, ...]
    stages: tuple[StageRecordPart, ...] = ()
    rescored: Mapping[int, SplitResult] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModeReplies:
    """One model's replies by mode, on validation and on test questions."""

    validation: Mapping[Mode, Sequence[Prediction]] = field(default_factory=dict)
    test: Mapping[Mode, Sequence[Prediction]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FittedCut:
    """The `value` of an estimator at which rationales begin, and their share of test questions.

    None: no rationale is worth writing. `by_tuned`: the tuned model's estimate, not the base's.
    """

    estimator: str
    value: float | None
    share: float
    by_tuned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The replies of the "base" model and, where the method tunes, of the "tuned" one.

    `routed_at` says where a rationale begins in routed mode, by model, if validation fitted it.
    `also` has the replies to further sets, by set, and by model and mode.
    """

    by_model: Mapping[str, ModeReplies]
    also: Mapping[str, Mapping[tuple[str, Mode], Sequence[Prediction]]] = field(
        default_factory=dict
    )
    routed_at: Mapping[str, FittedCut] = field(default_factory=dict)
    stages: tuple[StageRecordPart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """The results of all stages up to `until`; None for later ones.

    `tuned` is also None if the method has no stage.
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
        """Every rationale that a teacher was asked for, for the method or for an estimator."""
        return self.taught.rationales if self.taught else self.scored.rationales

    @property
    def own(self) -> Sequence[Rationale]:
        """The student's own rationales."""
        return self.taught.own if self.taught else ()

    @property
    def stages(self) -> list[StageRecordPart]:
        """The stages that do work, in the order in which they ran."""
        reached = (self.scored, self.taught, self.tuned, self.evaluated)
        return [record for result in reached if result for record in result.stages]

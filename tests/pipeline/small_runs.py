"""Words of small runs, and scores whose classes are known by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from caft.pipeline.results import Scored
from caft.records import AnswerScore, Question
from caft.store import StageKind, write_table

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


@dataclass(frozen=True)
class Finished:
    """For the store: `stage` as if it had been run, and had written what `write` writes."""

    stage: Any
    write: Callable[[Path], object]

    resumable: ClassVar[bool] = False
    scratch: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> StageKind:
        return self.stage.kind  # type: ignore[no-any-return]

    @property
    def key(self) -> Mapping[str, object]:
        return self.stage.key  # type: ignore[no-any-return]

    def produce(self, folder: Path) -> None:
        self.write(folder)

    def read(self, folder: Path) -> object:
        return self.stage.read(folder)


def finish_scores(stage: Any, rows: Sequence[AnswerScore]) -> Finished:
    """A stage of scores with these rows as its result."""
    return Finished(stage, lambda at: write_table(at / "scores.parquet", AnswerScore, rows))

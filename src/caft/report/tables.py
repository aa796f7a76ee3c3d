"""The rows of a report, question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from caft.records import AnswerScore, Mode, Prediction, Question, Rationale
from caft.text.config import OptionIds

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTables:
    """All rows per question that a run has produced so far; a missing part is empty.

    `rationales` are the teacher's, `own` the student's: one a question, accepted or not.
    `questions`, `split_of` (train, validation or test) and `complexity_of` are by question id;
    `option_ids` are those that the model was shown.
    `predictions` is by ("base" or "tuned", mode) and holds test rows. `curves` holds training
    metrics in order, each a mapping with `stage`, `epoch` (of the stage, from 1) and either `loss`
    (cross-entropy in nats a token) with its `step`, or `validation_accuracy`.
    """

    questions: Mapping[str, Question] = field(default_factory=dict)
    split_of: Mapping[str, str] = field(default_factory=dict)
    scores: Sequence[AnswerScore] = ()
    complexity_of: Mapping[str, str] = field(default_factory=dict)
    rationales: Sequence[Rationale] = ()
    own: Sequence[Rationale] = ()
    predictions: Mapping[tuple[str, Mode], Sequence[Prediction]] = field(default_factory=dict)
    curves: Sequence[Mapping[str, float]] = ()
    option_ids: OptionIds = OptionIds.letters


def take_evenly(rows: Sequence[_Row], count: int) -> list[_Row]:
    """Up to `count` rows at even distances, so that the end is seen as well as the start."""
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]

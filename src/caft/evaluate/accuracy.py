"""Accuracies with Wilson intervals, over all rows, by class and by subject. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from caft.records import Prediction
from caft.statistics import wilson_interval


def summarise_accuracy(
    predictions: Sequence[Prediction],
    complexity_of: Mapping[str, str],
    subject_of: Mapping[str, str],
    classes: Sequence[str],
    confidence: float,
) -> dict[str, Any]:
    """One mode's entry in summary.json. Unparsable replies stay in the denominator."""
    present = {complexity_of[item.question_id] for item in predictions}
    subjects = sorted({subject_of[item.question_id] for item in predictions} - {""})

    def among(belongs: Callable[[str], bool]) -> dict[str, Any]:
        rows = [item for item in predictions if belongs(item.question_id)]
        return _interval(rows, confidence)

    return {
        **_interval(predictions, confidence),
        "unparsable": sum(item.parsed is None for item in predictions),
        "generated_tokens": sum(item.generated_tokens for item in predictions),
        "by_complexity": {
            name: among(lambda row, name=name: complexity_of[row] == name)  # type: ignore[misc]
            for name in classes
            if name in present
        },
        "by_subject": {
            name: among(lambda row, name=name: subject_of[row] == name)  # type: ignore[misc]
            for name in subjects
        },
    }


def _interval(rows: Sequence[Prediction], confidence: float) -> dict[str, Any]:
    interval = wilson_interval(sum(item.correct for item in rows), len(rows), confidence)
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def pick_best_mode(validation: Mapping[str, Sequence[Prediction]]) -> str | None:
    """The mode that got most validation rows right; the cheaper one of equals.

    Never looks at test rows: a mode chosen there would flatter the model.
    """
    if not validation or not all(validation.values()):
        return None

    def merit(mode: str) -> tuple[int, int]:
        rows = validation[mode]
        return sum(row.correct for row in rows), -sum(row.generated_tokens for row in rows)

    return max(validation, key=merit)

"""What the scores of the training questions are worth. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caft.records import AnswerScore, difficulty
from caft.statistics import roc_auc


def describe_scores(
    scores: Sequence[AnswerScore], estimator: str, confidence: float
) -> dict[str, Any]:
    """The `score` part of summary.json: each estimate against the model's own mistakes."""
    names = list(dict.fromkeys(name for score in scores for name in score.estimates))
    masses = [score.estimates.get("option_mass") for score in scores]
    known = [mass for mass in masses if mass is not None]
    return {
        "estimator": estimator,
        "roc_auc": {name: measure_auc(scores, name, confidence) for name in names},
        "option_mass": sum(known) / len(known) if known else None,
        "valid_answer_rate": sum(score.valid for score in scores) / len(scores),
    }


def measure_auc(scores: Sequence[AnswerScore], estimator: str, confidence: float) -> dict[str, Any]:
    """ROC AUC of one estimate, oriented so that more means harder, against mistakes."""
    area = roc_auc(
        [difficulty(estimator, score.estimates.get(estimator)) for score in scores],
        [not score.correct for score in scores],
        confidence,
        event="wrong",
    )
    numbers = {"value": area.value, "low": area.low, "high": area.high}
    entry: dict[str, Any] = {**numbers, "n": area.n, "incorrect": area.positives}
    if area.value is None:
        entry["reason"] = area.reason
    return entry

"""How well an estimate finds mistakes, subject by subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.records import AnswerScore, difficulty
from caft.statistics import AreaUnderCurve, roc_auc


def measure_by_subject(
    scores: Sequence[AnswerScore],
    subject_of: Mapping[str, str],
    estimator: str,
    confidence: float = 0.95,
) -> dict[str, AreaUnderCurve]:
    """ROC AUC against mistakes for every subject, most questions first."""
    rows_of: dict[str, list[AnswerScore]] = {}
    for score in scores:
        rows_of.setdefault(subject_of.get(score.question_id, ""), []).append(score)
    by_size = sorted(rows_of.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        subject: roc_auc(
            [difficulty(estimator, row.estimates.get(estimator)) for row in rows],
            [not row.correct for row in rows],
            confidence,
            event="wrong",
        )
        for subject, rows in by_size
    }

"""The points of a ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RocPoint:
    """What is caught, and what is flagged for nothing, when rows at or above `threshold` are.

    The first point of a curve flags nothing: its threshold is infinite.
    """

    threshold: float
    false_positive_rate: float
    true_positive_rate: float


def roc_points(scores: Sequence[float], positives: Sequence[bool]) -> tuple[RocPoint, ...]:
    """The curve from (0, 0) to (1, 1), one point for every distinct score, highest first.

    Rows of equal score move together, so ties make slanted steps as the area's half counts ask.
    """
    values, flags = np.asarray(scores, dtype=np.float64), np.asarray(positives, dtype=bool)
    assert flags.any(), "no positives"
    assert not flags.all(), "no negatives"
    distinct, place = np.unique(-values, return_inverse=True)
    hits = np.cumsum(np.bincount(place[flags], minlength=distinct.size)) / flags.sum()
    alarms = np.cumsum(np.bincount(place[~flags], minlength=distinct.size)) / (~flags).sum()
    rest = (
        RocPoint(float(-cut), float(alarm), float(hit))
        for cut, alarm, hit in zip(distinct, alarms, hits, strict=True)
    )
    return (RocPoint(float("inf"), 0.0, 0.0), *rest)

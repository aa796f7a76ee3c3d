"""Calibration: whether stated probabilities agree with observed frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def brier_score(probabilities: Sequence[Sequence[float]], gold: Sequence[int]) -> float:
    """Mean over rows of the squared distance between a row's probabilities and the truth.

    Brier (1950) over all classes: 0 is perfect, 2 is certain and wrong; k equal options score
    1 - 1/k. Rows may have different numbers of options; each row's probabilities sum to 1.
    """
    assert len(probabilities) == len(gold) > 0, f"{len(probabilities)} rows for {len(gold)} answers"
    return float(
        np.mean([_distance(row, right) for row, right in zip(probabilities, gold, strict=True)])
    )


def _distance(row: Sequence[float], gold: int) -> float:
    assert abs(sum(row) - 1) < 1e-6, f"probabilities sum to {sum(row)}"
    return sum((share - (place == gold)) ** 2 for place, share in enumerate(row))


def expected_calibration_error(
    probabilities: Sequence[float], outcomes: Sequence[bool], bins: int = 10
) -> float:
    """Mean distance between stated and observed frequency over equally wide bins, weighted by rows.

    Bins are half-open, [0, 1/bins) and so on; the last one includes 1 (Guo et al., 2017, whose bins
    are open at the other end).
    """
    stated, happened = _checked(probabilities, outcomes)
    assert bins >= 1, f"{bins} bins"
    place = np.minimum((stated * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=stated - happened, minlength=bins)
    return float(np.abs(gaps).sum() / stated.size)


def _checked(
    probabilities: Sequence[float], outcomes: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    stated = np.asarray(probabilities, dtype=np.float64)
    happened = np.asarray(outcomes, dtype=np.float64)
    assert stated.size == happened.size > 0, f"{stated.size} for {happened.size} outcomes"
    assert ((stated >= 0) & (stated <= 1)).all(), "a probability is outside 0 to 1"
    return stated, happened

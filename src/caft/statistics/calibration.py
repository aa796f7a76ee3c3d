"""Whether a stated probability keeps its word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def brier_score(probabilities: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Mean squared distance between probability and outcome; 0 is perfect, 0.25 is all halves."""
    stated, happened = _checked(probabilities, outcomes)
    return float(((stated - happened) ** 2).mean())


def expected_calibration_error(
    probabilities: Sequence[float], outcomes: Sequence[bool], bins: int = 10
) -> float:
    """Mean distance between stated and observed frequency over equally wide bins, by their rows.

    Bins are half-open, [0, 1/bins) and so on; the last one takes 1 in (Guo et al., 2017, whose
    bins are open at the other end).
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
    assert ((stated >= 0) & (stated <= 1)).all(), "a probability lies outside 0 to 1"
    return stated, happened

"""Intervals: of a proportion, and of resampled values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

FEW = 5
"""Fewer observations of a kind: the usual bound of the normal approximation, and resamples of them
rarely hold any."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between its bounds, and the number of observations it rests on."""

    value: float
    low: float
    high: float
    n: int


def normal_quantile(confidence: float) -> float:
    """Standard errors on each side of a two-sided interval of this confidence (0.95: 1.96)."""
    assert 0 < confidence < 1, f"confidence is {confidence}, not within 0 to 1"
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def student_quantile(confidence: float, degrees: float) -> float:
    """As `normal_quantile`, of a standard error that has these degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, degrees))


def satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The sum of variances, each with its degrees of freedom, and its own (Satterthwaite, 1946)."""
    whole = sum(variance for variance, _ in parts)
    return whole, 1 / sum((variance / whole) ** 2 / degrees for variance, degrees in parts)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The proportion successes/n with Wilson's score interval (1927), no continuity correction.

    It keeps a width at 0 and at n successes, where the normal interval collapses to a point.
    """
    from scipy.stats import binomtest

    assert n > 0, "a proportion of no observations does not exist"
    assert 0 <= successes <= n, f"{successes} successes of {n}"
    p = successes / n
    bounds = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    # Rounding may put a bound past the estimate itself at 0 and at n successes.
    return Interval(p, min(p, float(bounds.low)), max(p, float(bounds.high)), n)


def percentile_interval(value: float, draws: Floats, n: int, confidence: float) -> Interval:
    """`value` between percentiles of its bootstrap `draws`.

    Few draws of very few observations may miss the value: the bounds are widened to include it.
    """
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)), n)


def open_interval(value: float, draws: Floats, n: int, confidence: float, least: float) -> Interval:
    """As `percentile_interval`, within `least` to 1, and never without width.

    Where all outcomes are alike no resample differs from them, and the bounds fall together, as if
    ten questions that two models answered alike proved that they always would. They are then moved
    apart by what Wilson's interval leaves open at 0 of n.
    """
    found = percentile_interval(value, draws, n, confidence)
    reach = wilson_interval(0, n, confidence).high if found.low == found.high else 0.0
    return Interval(value, max(least, found.low - reach), min(1.0, found.high + reach), n)

"""The interval of a proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between its bounds, and the number of observations it rests on."""

    value: float
    low: float
    high: float
    n: int


def normal_quantile(confidence: float) -> float:
    """How many standard errors a two-sided interval of this confidence reaches (0.95: 1.96)."""
    assert 0 < confidence < 1, f"confidence is {confidence}, not within 0 to 1"
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The proportion successes/n with Wilson's score interval (1927), no continuity correction.

    It stays within 0..1 and keeps a width at 0 and at n successes, where the usual normal
    interval collapses to a point.
    """
    assert n > 0, "a proportion of no observations does not exist"
    assert 0 <= successes <= n, f"{successes} successes of {n}"
    z = normal_quantile(confidence)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding may put a bound past the estimate itself at 0 and at n successes.
    return Interval(p, min(p, max(0.0, centre - reach)), max(p, min(1.0, centre + reach)), n)

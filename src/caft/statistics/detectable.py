"""What a test set of this size can show at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from caft.statistics.wilson import normal_quantile

# At 0 itself the spread of an accuracy of 0 is 0 too, and no difference would pass for a root.
_NEXT_TO_NOTHING = 1e-9


def smallest_unpaired_difference(
    n: int, accuracy: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The least gain over `accuracy` that two separate groups of n questions would reveal.

    Two-sided normal test of two proportions, variance pooled under "no difference". None when
    not even an accuracy of 1 would stand out.
    """
    assert n > 0, "no questions"
    assert 0 <= accuracy <= 1, f"accuracy is {accuracy}"
    z_alpha, z_power = normal_quantile(1 - alpha), NormalDist().inv_cdf(power)

    def excess(gain: float) -> float:
        other = accuracy + gain
        mean = (accuracy + other) / 2
        under_null = z_alpha * math.sqrt(2 * mean * (1 - mean))
        spread = accuracy * (1 - accuracy) + other * (1 - other)
        return math.sqrt(n) * gain - under_null - z_power * math.sqrt(max(0.0, spread))

    return _first_root(excess, 1 - accuracy)


def smallest_paired_difference(
    n: int, differing: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The least difference that McNemar's test would reveal on n questions asked of both models.

    `differing` is the share of questions on which exactly one of the two is right (Connor, 1987).
    None when not even differences that all point one way would stand out.
    """
    assert n > 0, "no questions"
    assert 0 <= differing <= 1, f"share of differing questions is {differing}"
    z_alpha, z_power = normal_quantile(1 - alpha), NormalDist().inv_cdf(power)

    def excess(gap: float) -> float:
        spread = math.sqrt(max(0.0, differing - gap * gap))
        return math.sqrt(n) * gap - z_alpha * math.sqrt(differing) - z_power * spread

    return _first_root(excess, differing)


def _first_root(excess: Callable[[float], float], end: float) -> float | None:
    """Where `excess`, negative just above 0, reaches 0; None when it has not by `end`."""
    from scipy.optimize import brentq

    if end <= _NEXT_TO_NOTHING or excess(end) < 0:
        return None
    return float(brentq(excess, _NEXT_TO_NOTHING, end))

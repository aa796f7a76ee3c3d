"""Arms of which only counts are known: how many answers were right under each seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, variance
from typing import TypeAlias

from caft.statistics.arms import ArmsCompared
from caft.statistics.intervals import Interval, satterthwaite, student_quantile
from caft.statistics.verdict import ALPHA

Counts: TypeAlias = Mapping[int, tuple[int, int]]
"""Right answers, and all of them, by seed."""


def compare_counts(
    first: Counts, second: Counts, confidence: float = 0.95, tests: int = 1
) -> ArmsCompared:
    """Welch's test and interval over questions and seeds, as if the arms had other questions.

    An arm's variance is that of its questions, p(1 - p)/n, plus that of the mean over its seeds.
    The first is not divided by the seeds, which answer the same questions: how far their outcomes
    agree is not known from counts. p is Agresti and Caffo's (2000; one right and one wrong answer
    more), so that no arm without a mistake looks certain. Degrees of freedom are Satterthwaite's.
    Which replies one arm alone got right is not known: both counts are 0. `detectable` is corrected
    for so many `tests`, as Holm's first step is.
    """
    from scipy.stats import t

    value = _mean(second) - _mean(first)
    spread, degrees = satterthwaite([*_variances(first), *_variances(second)])
    n = min(_questions(first), _questions(second))
    level = max(confidence, 1 - ALPHA / tests)
    seen = (student_quantile(level, degrees) + float(t.ppf(0.8, degrees))) * math.sqrt(spread)
    return ArmsCompared(
        difference=_interval(value, (spread, degrees), n, confidence, lowest=-1.0),
        p_value=2 * float(t.sf(abs(value) / math.sqrt(spread), degrees)),
        seeds=min(len(first), len(second)),
        only_first=0,
        only_second=0,
        detectable=seen if seen <= 1 else None,
    )


def count_interval(arm: Counts, confidence: float = 0.95) -> Interval:
    """An arm's mean accuracy over its seeds, with bounds over questions and seeds."""
    spread = satterthwaite(_variances(arm))
    return _interval(_mean(arm), spread, _questions(arm), confidence, lowest=0.0)


def _interval(
    value: float, spread: tuple[float, float], n: int, confidence: float, lowest: float
) -> Interval:
    """`spread` is a variance with its degrees of freedom."""
    reach = student_quantile(confidence, spread[1]) * math.sqrt(spread[0])
    return Interval(value, max(lowest, value - reach), min(1.0, value + reach), n)


def _questions(arm: Counts) -> int:
    return min(size for _, size in arm.values())


def _mean(arm: Counts) -> float:
    return fmean(right / n for right, n in arm.values())


def _variances(arm: Counts) -> list[tuple[float, float]]:
    """The variances of an arm's mean accuracy, each with its degrees of freedom."""
    n = _questions(arm)
    p = (fmean(right * n / size for right, size in arm.values()) + 1) / (n + 2)
    shares = [right / size for right, size in arm.values()]
    of_questions = (p * (1 - p) / (n + 2), float(max(1, n - 1)))
    if len(shares) < 2:
        return [of_questions]
    return [of_questions, (variance(shares) / len(shares), float(len(shares) - 1))]

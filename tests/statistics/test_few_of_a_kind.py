"""Few mistakes, or few right answers: neither their own spread nor resamples of them know it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from caft.statistics import (
    FEWEST_TO_JUDGE,
    Verdict,
    judge_area,
    resample_areas,
    roc_auc,
    stratified_auc,
)
from caft.statistics.auc import newcombe_bounds

Z = 1.959964
Bounds = Callable[[list[float], list[bool]], tuple[float, float]]


def of_delong(scores: list[float], wrong: list[bool]) -> tuple[float, float]:
    area = roc_auc(scores, wrong)
    assert area.low is not None
    assert area.high is not None
    return area.low, area.high


def of_resamples(scores: list[float], wrong: list[bool]) -> tuple[float, float]:
    found = resample_areas({"x": scores}, wrong, resamples=200).interval("x")
    return found.low, found.high


def within_one_stratum(scores: list[float], wrong: list[bool]) -> tuple[float, float]:
    area = stratified_auc(scores, wrong, ["all"] * len(wrong), resamples=200)
    assert area.low is not None
    assert area.high is not None
    return area.low, area.high


def within_strata(scores: list[float], wrong: list[bool]) -> tuple[float, float]:
    # Two strata; every other mistake is in the second.
    area = stratified_auc(scores, wrong, ["a", "b"] * (len(wrong) // 2), resamples=200)
    assert area.low is not None
    assert area.high is not None
    return area.low, area.high


def hanley_mcneil(area: float, m: int, n: int) -> float:
    """The standard error, with the mean of both kinds' sizes (Newcombe, 2006, method 5)."""
    alike = (1 - area) / (2 - area) + area / (1 + area)
    return math.sqrt(area * (1 - area) / (m * n) * (1 + ((m + n) / 2 - 1) * alike))


@pytest.mark.parametrize("bounds", [of_delong, of_resamples, within_one_stratum])
def test_one_mistake_of_two_hundred_at_the_ninetieth_percentile(bounds: Bounds) -> None:
    scores, wrong = [float(k) for k in range(200)], [k == 180 for k in range(200)]
    low, high = bounds(scores, wrong)
    area = 180 / 199
    assert area - low == pytest.approx(Z * hanley_mcneil(low, 1, 199), abs=1e-5)
    assert high - area == pytest.approx(Z * hanley_mcneil(high, 1, 199), abs=1e-5)
    assert low < 0.5
    # One right answer is the mirror image.
    mirrored = bounds([-score for score in scores], [not flag for flag in wrong])
    assert mirrored == pytest.approx((low, high))


def test_of_strata_the_bound_is_that_of_their_pairs_together() -> None:
    # 4 * 6 and 2 * 8 pairs: the variance of a mean that weighs them by their number.
    for bound in (found := newcombe_bounds(0.6, [(4, 6), (2, 8)], 0.95)):
        spread = math.hypot(24 * hanley_mcneil(bound, 4, 6), 16 * hanley_mcneil(bound, 2, 8)) / 40
        assert abs(0.6 - bound) == pytest.approx(Z * spread, abs=1e-5)
    assert found[0] < 0.5
    assert found[1] > 0.7


@pytest.mark.parametrize("bounds", [of_delong, of_resamples, within_strata])
@pytest.mark.parametrize("few", [2, 4, 10])
def test_an_estimate_that_knows_nothing_is_rarely_above_chance(bounds: Bounds, few: int) -> None:
    generator, above, below = np.random.default_rng(few), 0, 0
    wrong = [k < few for k in range(100)]
    for _ in range(300):
        low, high = bounds(generator.normal(size=100).tolist(), wrong)
        above += low > 0.5
        below += high < 0.5
    # 2.5% on either side, 7.5 of 300; a binomial is above 15 in 1 of 200 cases.
    assert max(above, below) <= 15


def test_positives_at_both_ends_say_nothing_until_there_are_five() -> None:
    """Each mistake is at the top or at the bottom, by a fair coin: the area is 0.5 in truth."""
    right = [float(k) for k in range(100)]
    for few in (2, 3, 4):
        low, high = of_resamples([*[1000.0] * few, *right], [True] * few + [False] * 100)
        # By chance in 1 of 2**few cases, which is 6% of four.
        assert judge_area(low, high, few) is Verdict.unclear
    assert 0.5**FEWEST_TO_JUDGE < 0.05 < 0.5 ** (FEWEST_TO_JUDGE - 1)
    low, high = of_resamples([*[1000.0] * 5, *right], [True] * 5 + [False] * 100)
    assert judge_area(low, high, 5) is Verdict.yes


def test_two_estimates_of_one_mistake_are_hardly_compared() -> None:
    wrong = [k == 180 for k in range(200)]
    up = [float(k) for k in range(200)]
    other = [*up[:180], 150.5, *up[181:]]
    resampled = resample_areas({"up": up, "other": other}, wrong)
    gap, one, two = (
        resampled.difference("up", "other"), resampled.interval("up"), resampled.interval("other")
    )  # fmt: skip
    assert gap.value == pytest.approx((151 - 180) / 199)
    assert gap.value - gap.low == pytest.approx(
        math.hypot(two.value - two.low, one.high - one.value)
    )
    assert gap.high > 0
    back = resampled.difference("other", "up")
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low))

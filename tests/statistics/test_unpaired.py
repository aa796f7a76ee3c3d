"""Arms of which only counts are known, against scipy and against simulated arms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from caft.statistics import ALPHA, compare_arms, compare_counts, count_interval
from caft.statistics.calibrate import CALM, WILD, Truth, draw_arms


def test_one_seed_is_agresti_and_caffos_interval() -> None:
    found = compare_counts({1: (40, 100)}, {1: (55, 100)})
    one, two = 41 / 102, 56 / 102
    error = math.sqrt((one * (1 - one) + two * (1 - two)) / 102)
    assert found.difference.value == pytest.approx(0.15)
    parts = [one * (1 - one) / 102, two * (1 - two) / 102]
    degrees = sum(parts) ** 2 / sum(part**2 / 99 for part in parts)
    reach = stats.t.ppf(0.975, degrees) * error
    assert found.difference.high - 0.15 == pytest.approx(reach, rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.15 / error, degrees), rel=1e-9)
    assert found.difference.n == 100
    # 80% power: 0.84 standard errors further from 0 than the end of the interval is.
    assert found.detectable == pytest.approx(reach + stats.t.ppf(0.8, degrees) * error)
    among_three = compare_counts({1: (40, 100)}, {1: (55, 100)}, tests=3)
    corrected = stats.t.ppf([1 - 0.05 / 6, 0.8], degrees).sum() * error
    assert among_three.detectable == pytest.approx(corrected)
    assert compare_counts({1: (1, 2)}, {1: (0, 2)}).detectable is None
    assert compare_counts({1: (20, 20)}, {1: (0, 20)}).difference.low == -1.0


def test_of_many_questions_it_is_welchs_test_of_the_seeds() -> None:
    n = 10**9
    shares = ([0.41, 0.5, 0.62], [0.6, 0.71, 0.66, 0.8])
    one, two = ({s: (round(share * n), n) for s, share in enumerate(arm)} for arm in shares)
    found = compare_counts(one, two)
    welch = stats.ttest_ind(shares[1], shares[0], equal_var=False)
    interval = welch.confidence_interval()
    assert found.p_value == pytest.approx(welch.pvalue, rel=1e-5)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        (interval.low, interval.high), abs=1e-5
    )
    assert found.seeds == 3
    error = found.difference.value / welch.statistic
    seen = stats.t.ppf([0.975, 0.8], welch.df).sum() * error
    assert found.detectable == pytest.approx(seen, rel=1e-5)


def test_an_arms_interval_covers_questions_and_seeds() -> None:
    # 100 questions: 0.5^2 / 102 at 99 degrees. Seeds: 0.1^2 / 3 at 2, by Satterthwaite together.
    found = count_interval({1: (40, 100), 2: (50, 100), 3: (60, 100)})
    parts = ((0.25 / 102, 99), (0.01 / 3, 2))
    whole = sum(part for part, _ in parts)
    degrees = whole**2 / sum(part**2 / free for part, free in parts)
    reach = stats.t.ppf(0.975, degrees) * math.sqrt(whole)
    assert (found.low, found.value, found.high) == pytest.approx((0.5 - reach, 0.5, 0.5 + reach))
    assert found.n == 100
    assert count_interval({1: (20, 20)}).high == 1.0
    # Two seeds have a variance, too: 0.1^2 / 2 each side of their mean, at one degree.
    two = count_interval({1: (400_000, 10**6), 2: (600_000, 10**6)}, 0.5)
    assert two.high - 0.5 == pytest.approx(stats.t.ppf(0.75, 1) * 0.1, rel=1e-3)


def test_no_mistake_at_all_is_not_certain() -> None:
    found = compare_counts({1: (10, 10)}, {1: (10, 10)})
    assert (found.difference.value, found.p_value) == (0.0, 1.0)
    assert found.difference.low < -0.1 < 0.1 < found.difference.high


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, CALM, WILD])
@pytest.mark.parametrize("seeds", [3, 5])
def test_it_has_few_false_alarms_and_less_power_than_pairs(spread: float, seeds: int) -> None:
    generator = np.random.default_rng(4)
    alarms = found = paired = 0
    for _ in range(150):
        truth = Truth(effect=0, questions=200, seeds=seeds, spread=spread)
        alarms += _p(draw_arms(truth, generator)) < ALPHA
        arms = draw_arms(Truth(effect=0.1, questions=200, seeds=seeds, spread=spread), generator)
        found += _p(arms) < ALPHA
        paired += compare_arms(arms, [("first", "second")])[0].p_value < ALPHA
    # At a true rate of 5%, 150 sweeps have more than 12 one time in twenty.
    assert alarms <= 12
    assert found < paired


def _p(arms: dict) -> float:
    counts = [
        {seed: (int(np.sum(row)), len(row)) for seed, row in rows.items()} for rows in arms.values()
    ]
    return compare_counts(*counts).p_value

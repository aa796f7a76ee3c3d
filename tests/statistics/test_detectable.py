import math

import numpy as np
import pytest
from scipy import stats

from caft.statistics import (
    mcnemar_exact,
    smallest_paired_difference,
)


def test_paired_solves_connors_formula() -> None:
    gap = smallest_paired_difference(300, 0.3)
    assert gap is not None
    z_alpha, z_power = 1.959964, 0.841621
    needed = (z_alpha * math.sqrt(0.3) + z_power * math.sqrt(0.3 - gap**2)) ** 2 / gap**2
    assert needed == pytest.approx(300, rel=1e-5)


def test_simulated_tests_have_about_the_promised_power() -> None:
    n, differing = 400, 0.25
    gap = smallest_paired_difference(n, differing)
    assert gap is not None
    shares = [(differing - gap) / 2, (differing + gap) / 2, 1 - differing]
    drawn = np.random.default_rng(0).multinomial(n, shares, 600)
    found = np.mean([mcnemar_exact(int(one), int(two)) < 0.05 for one, two, _ in drawn])
    assert 0.7 < found < 0.86  # the exact test gives a little of the normal test's power away


def test_more_questions_show_smaller_differences() -> None:
    sizes = [smallest_paired_difference(n, 0.3) for n in (100, 400, 1600)]
    assert all(size is not None for size in sizes)
    assert sizes == sorted(sizes, key=lambda size: -(size or 0))


def test_what_cannot_be_shown_is_none() -> None:
    assert smallest_paired_difference(10, 0.1) is None
    assert smallest_paired_difference(100, 0.0) is None


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.13), (5, 0.05), (10, 0.02)])
def test_over_seeds_it_has_the_power_of_students_test(seeds: int, spread: float) -> None:
    # So many questions that only the seeds vary: Student's test of two groups, whose power scipy's
    # noncentral distribution knows.
    gap = smallest_paired_difference(10**9, 0.3, seeds=seeds, spread=spread)
    assert gap is not None
    degrees, shift = 2 * seeds - 2, gap / (spread * math.sqrt(2 / seeds))
    power = stats.nct.sf(stats.t.ppf(0.975, degrees), degrees, shift)
    assert power == pytest.approx(0.8, abs=0.04)


def test_seeds_that_do_not_vary_leave_the_paired_formula() -> None:
    assert smallest_paired_difference(300, 0.3, seeds=5) == smallest_paired_difference(300, 0.3)


def test_more_seeds_show_smaller_differences() -> None:
    sizes = [smallest_paired_difference(600, 0.3, seeds=seeds, spread=0.1) for seeds in (2, 3, 5)]
    assert all(size is not None for size in sizes)
    assert sizes == sorted(sizes, key=lambda size: -(size or 0))
    # Two seeds that move accuracy by half could hide any difference.
    assert smallest_paired_difference(600, 0.3, seeds=2, spread=0.5) is None
    # Nor a difference of which a fifth of all replies would have to be more than right.
    assert smallest_paired_difference(10**6, 0.3, seeds=2, spread=0.2) is None


@pytest.mark.parametrize(("n", "seeds", "spread"), [(10, 5, 0.1), (50, 4, 0.05), (400, 3, 0.02)])
def test_questions_and_seeds_share_satterthwaites_degrees(
    n: int, seeds: int, spread: float
) -> None:
    gap = smallest_paired_difference(n, 0.3, seeds=seeds, spread=spread)
    assert gap is not None
    parts = [(0.3 / n, n - 1), *[(spread**2 / seeds, seeds - 1)] * 2]
    whole = sum(part for part, _ in parts)
    degrees = whole**2 / sum(part**2 / free for part, free in parts)
    needed = stats.t.ppf(0.975, degrees) * whole**0.5
    needed += stats.t.ppf(0.8, degrees) * (whole - gap**2 / n) ** 0.5
    assert gap == pytest.approx(needed, rel=1e-9)

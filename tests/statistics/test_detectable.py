import math

import numpy as np
import pytest

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

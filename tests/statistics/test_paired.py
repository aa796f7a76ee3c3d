from fractions import Fraction
from math import comb

import numpy as np
import pytest

from caft.statistics import count_paired, mcnemar_exact, paired_difference


def test_counts_pairs_in_place() -> None:
    outcome = count_paired([True, True, False, False, True], [True, False, True, False, False])
    assert (outcome.both, outcome.only_first, outcome.only_second, outcome.neither) == (1, 2, 1, 1)
    assert outcome.n == 5
    assert outcome.difference == pytest.approx(-0.2)
    with pytest.raises(AssertionError, match="2 outcomes against 1"):
        count_paired([True, False], [True])


def test_mcnemar_by_hand() -> None:
    # 1 against 5: 2 * (1 + 6) / 64.
    assert mcnemar_exact(1, 5) == 14 / 64
    assert mcnemar_exact(5, 1) == 14 / 64
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(3, 3) == 1.0


def test_mcnemar_of_thousands_neither_overflows_nor_loses_its_tail() -> None:
    # The sum of whole numbers, as fractions have no rounding.
    tail = Fraction(sum(comb(12_000, fewer) for fewer in range(5901)), 2**12_000)
    assert mcnemar_exact(5900, 6100) == pytest.approx(float(2 * tail), rel=1e-9)
    assert mcnemar_exact(2000, 10000) == 0.0


def test_paired_difference_agrees_with_resampling_rows() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.random(250) < 0.3, generator.random(250) < 0.5
    interval = paired_difference(count_paired(list(first), list(second)))
    rows = generator.integers(0, 250, size=(4000, 250))
    gaps = (second[rows].astype(float) - first[rows]).mean(axis=1)
    assert interval.value == pytest.approx(second.mean() - first.mean())
    expected = np.quantile(gaps, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.01)
    assert interval.n == 250


def test_paired_difference_is_seeded() -> None:
    outcome = count_paired([True] * 30 + [False] * 70, [False] * 20 + [True] * 80)
    assert paired_difference(outcome, seed=5) == paired_difference(outcome, seed=5)

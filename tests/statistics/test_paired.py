from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest

from caft.statistics import (
    PairedOutcome,
    count_paired,
    mcnemar_exact,
    paired_difference,
    score_difference,
    wilson_interval,
)


def test_counts_pairs_in_place() -> None:
    outcome = count_paired([True, True, False, False, True], [True, False, True, False, False])
    assert (outcome.n, outcome.only_first, outcome.only_second) == (5, 2, 1)
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
    terms = accumulate(range(5900), lambda term, k: term * (12_000 - k) // (k + 1), initial=1)
    tail = Fraction(sum(terms), 2**12_000)
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
    outcome = PairedOutcome(n=18 * 10**7, only_first=3 * 10**7, only_second=4 * 10**7)
    assert paired_difference(outcome, seed=5) == paired_difference(outcome, seed=5)
    assert paired_difference(outcome, seed=5) != paired_difference(outcome, seed=6)
    assert paired_difference(outcome) == paired_difference(outcome, seed=0)


def score_of(outcome: PairedOutcome, gap: float) -> float:
    """The score statistic of a true difference, the likelihood maximised by search."""
    won, lost, n = outcome.only_second, outcome.only_first, outcome.n
    lower, upper = max(0.0, -gap), (1 - gap) / 2
    share = np.linspace(lower, upper, 2_000_001)[1:-1]
    likelihood = (n - won - lost) * np.log(1 - 2 * share - gap)
    likelihood += won * np.log(share + gap) + lost * np.log(share)
    best = share[likelihood.argmax()]
    return (won - lost - n * gap) / np.sqrt(n * (2 * best + gap - gap**2))


@pytest.mark.parametrize(("won", "lost", "n"), [(12, 2, 50), (1, 9, 100), (3, 3, 300)])
def test_true_differences_within_the_score_interval_are_those_that_its_test_allows(
    won: int, lost: int, n: int
) -> None:
    outcome = PairedOutcome(n=n, only_first=lost, only_second=won)
    found = score_difference(outcome, 0.95)
    assert found.value == outcome.difference
    assert score_of(outcome, found.low) == pytest.approx(1.96, abs=1e-3)
    assert score_of(outcome, found.high) == pytest.approx(-1.96, abs=1e-3)


def test_no_loss_in_a_few_answers_is_no_proof_that_there_are_none() -> None:
    won = PairedOutcome(n=20, only_first=0, only_second=1)
    assert paired_difference(won).low == score_difference(won).low < -0.1
    # The other bound is Wilson's of 1 in 20, and where nothing differs both are.
    assert score_difference(won).high == pytest.approx(wilson_interval(1, 20).high)
    alike = score_difference(PairedOutcome(n=20, only_first=0, only_second=0))
    assert (-alike.low, alike.high) == pytest.approx((wilson_interval(0, 20).high,) * 2)
    lost = PairedOutcome(n=20, only_first=20, only_second=0)
    worst = score_difference(lost)
    assert (worst.value, worst.low) == (-1.0, -1.0)
    assert worst.high < -0.6
    assert paired_difference(lost).low == -1
    best = score_difference(PairedOutcome(n=20, only_first=0, only_second=20))
    assert (best.low, best.high, best.n) == (pytest.approx(-worst.high), 1.0, 20)


@pytest.mark.parametrize("n", [2, 3])
def test_of_hardly_any_questions_the_score_interval_is_wilsons(n: int) -> None:
    found = score_difference(PairedOutcome(n=n, only_first=0, only_second=1))
    assert found.high == pytest.approx(wilson_interval(1, n).high)

from itertools import product

import numpy as np
import pytest
from scipy import stats

from caft.statistics import count_paired, mcnemar_exact
from caft.statistics.paired import sign_flip_exact, sum_differences


def test_differences_are_summed_over_the_seeds_of_a_question() -> None:
    seeds = [
        ([True, False, False], [True, True, False]),
        ([True, False, True], [False, True, True]),
    ]
    assert sum_differences(seeds) == [-1, 2, 0]


def test_by_hand() -> None:
    # 3 + 2 - 1 = 4 of 6: only (+, +, +) with 6 and (+, +, -) with 4 reach it, twice 2 of 8.
    assert sign_flip_exact([3, 2, -1]) == pytest.approx(2 * 2 / 8)
    assert sign_flip_exact([-3, -2, 1, 0]) == pytest.approx(0.5)
    assert sign_flip_exact([2, 2]) == pytest.approx(0.5)
    assert sign_flip_exact([1, -1]) == 1.0
    assert sign_flip_exact([0, 0]) == 1.0
    assert sign_flip_exact([]) == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_every_flip_of_signs(seed: int) -> None:
    differences = np.random.default_rng(seed).integers(-3, 4, 11)
    flipped = np.array(list(product((-1, 1), repeat=11))) @ differences
    extreme = np.abs(flipped) >= abs(differences.sum())
    assert sign_flip_exact(differences.tolist()) == pytest.approx(extreme.mean())


def test_agrees_with_the_permutation_test_of_scipy() -> None:
    differences = np.random.default_rng(8).integers(-5, 6, 14).astype(float)
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_exact(differences.astype(int).tolist()) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("one", "two"), [(0, 0), (1, 5), (3, 3), (40, 90), (0, 900), (5900, 6100)])
def test_one_seed_is_mcnemars_exact_test(one: int, two: int) -> None:
    assert sign_flip_exact([-1] * one + [1] * two) == pytest.approx(
        mcnemar_exact(one, two), rel=1e-9
    )


def test_the_same_replies_under_more_seeds_are_no_more_evidence() -> None:
    first, second = [True] * 5 + [False] * 15, [False] * 3 + [True] * 14 + [False] * 3
    once = count_paired(first, second)
    p = sign_flip_exact(sum_differences([(first, second)] * 3))
    assert p == pytest.approx(mcnemar_exact(once.only_first, once.only_second))
    assert p > 50 * mcnemar_exact(3 * once.only_first, 3 * once.only_second)

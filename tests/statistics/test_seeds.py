import numpy as np
import pytest
from scipy import stats

from caft.statistics import mean_over_seeds, percentile_interval, resample_means


def test_student_interval_agrees_with_scipy_and_by_hand() -> None:
    values = [0.5, 0.56, 0.53]
    found = mean_over_seeds(values)
    assert found is not None
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    # Standard deviation 0.03, over root 3, times t of 4.3027 at two degrees of freedom.
    assert found.high - found.value == pytest.approx(4.3027 * 0.03 / 3**0.5, abs=1e-5)
    assert found.n == 3


def test_one_seed_has_no_interval() -> None:
    assert mean_over_seeds([0.5]) is None
    assert mean_over_seeds([]) is None


def make_outcomes(seed: int, seeds: int, questions: int = 200) -> list[list[bool]]:
    generator = np.random.default_rng(seed)
    hard = generator.random(questions)
    return (generator.random((seeds, questions)) > hard).tolist()


def test_one_seed_resamples_like_the_binomial() -> None:
    rows = make_outcomes(1, seeds=1)
    drawn = resample_means({"a": rows}, resamples=8000)["a"]
    share = np.mean(rows)
    assert drawn.mean() == pytest.approx(share, abs=0.002)
    assert drawn.std() == pytest.approx((share * (1 - share) / 200) ** 0.5, rel=0.04)


def test_spread_is_that_of_the_plain_two_way_bootstrap() -> None:
    rows = np.array(make_outcomes(2, seeds=4))
    drawn = resample_means({"a": rows.tolist()}, resamples=6000)["a"]
    generator = np.random.default_rng(9)
    plain = [
        rows[np.ix_(generator.integers(0, 4, 4), generator.integers(0, 200, 200))].mean()
        for _ in range(6000)
    ]
    assert drawn.std() == pytest.approx(np.std(plain), rel=0.05)
    assert np.quantile(drawn, 0.975) == pytest.approx(np.quantile(plain, 0.975), abs=0.006)


def test_arms_share_their_questions_so_that_equal_arms_differ_by_nothing() -> None:
    rows = make_outcomes(3, seeds=1)
    drawn = resample_means({"a": rows, "b": rows})
    assert np.array_equal(drawn["a"], drawn["b"])


def test_the_same_seed_gives_the_same_numbers() -> None:
    rows = make_outcomes(4, seeds=2)
    one, two = (resample_means({"a": rows}, seed=7)["a"] for _ in range(2))
    assert np.array_equal(one, two)


def test_bounds_hold_their_own_value() -> None:
    found = percentile_interval(0.9, np.linspace(0, 0.5, 101), n=10)
    assert (found.low, found.value, found.high) == (pytest.approx(0.0125), 0.9, 0.9)

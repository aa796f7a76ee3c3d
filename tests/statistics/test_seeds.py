from itertools import chain

import numpy as np
import pytest
from scipy import stats

from caft.statistics import (
    ALPHA,
    Verdict,
    count_paired,
    judge_difference,
    mcnemar_exact,
    mean_interval,
    mean_over_seeds,
    resample_means,
    wilson_interval,
)
from caft.statistics.paired import sign_flip_exact, sum_differences
from caft.statistics.seeds import ResampledMean, difference_interval


def test_student_interval_agrees_with_scipy_and_by_hand() -> None:
    values = [0.5, 0.56, 0.53]
    found = mean_over_seeds(values)
    assert found is not None
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    # Standard deviation 0.03, over root 3, times t of 4.3027 at two degrees of freedom.
    assert found.high - found.value == pytest.approx(4.3027 * 0.03 / 3**0.5, abs=1e-5)
    assert found.n == 3


def test_a_mean_over_seeds_is_a_share() -> None:
    found = mean_over_seeds([0.9, 0.99, 1.0])
    assert found is not None
    assert found.high == 1.0


def test_any_number_of_resamples_is_drawn() -> None:
    drawn = resample_means({"a": make_outcomes(1, seeds=2)}, resamples=250)["a"]
    assert drawn.of_questions.shape == drawn.of_seeds.shape == (250,)


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
    assert drawn.of_questions.mean() == pytest.approx(share, abs=0.002)
    assert drawn.of_questions.std() == pytest.approx((share * (1 - share) / 200) ** 0.5, rel=0.04)
    assert not drawn.of_seeds.any()


def test_questions_spread_as_in_the_plain_bootstrap_of_their_means() -> None:
    rows = np.array(make_outcomes(2, seeds=4))
    drawn = resample_means({"a": rows.tolist()}, resamples=6000)["a"].of_questions
    plain = stats.bootstrap((rows.mean(axis=0),), np.mean, n_resamples=6000, rng=9)
    assert drawn.std() == pytest.approx(plain.standard_error, rel=0.05)
    bounds = np.quantile(plain.bootstrap_distribution, [0.025, 0.975])
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(bounds, abs=0.006)


def test_seeds_spread_as_their_standard_error_says() -> None:
    # Accuracies .2, .5 and .8: standard deviation .3, over root 3.
    rows = [[True] * right + [False] * (10 - right) for right in (2, 5, 8)]
    drawn = resample_means({"a": rows}, resamples=20_000)["a"]
    assert drawn.variance_of_seeds == pytest.approx(0.3**2 / 3)
    assert drawn.of_seeds.mean() == pytest.approx(0, abs=0.005)
    assert drawn.of_seeds.std() == pytest.approx(0.3 / 3**0.5, rel=0.02)


def widening_of(*means: ResampledMean) -> float:
    """How much wider the interval is than the percentiles of the same draws."""
    value = means[-1].value - (means[0].value if len(means) > 1 else 0)
    drawn = means[-1].of_questions + means[-1].of_seeds
    if len(means) > 1:
        drawn = drawn - means[0].of_questions - means[0].of_seeds
    found = mean_interval(*means) if len(means) == 1 else difference_interval(*means)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low - value == pytest.approx((low - value) * (found.high - value) / (high - value))
    return (found.high - found.low) / float(high - low)


def made_mean(shares: list[float], *, spread: float, draw: int = 1) -> ResampledMean:
    """An arm with seeds of these accuracies, and a given spread of its 101 resampled questions."""
    generator = np.random.default_rng(draw)
    of_questions, of_seeds = generator.normal(0, 1, (2, 20_000))
    return ResampledMean(
        shares=np.array(shares),
        questions=101,
        of_questions=float(np.mean(shares)) + spread * of_questions / of_questions.std(),
        of_seeds=float(stats.sem(shares)) * of_seeds,
    )


def test_few_seeds_widen_by_students_quantile_over_the_normal_one() -> None:
    normal = stats.norm.ppf(0.975)
    # Questions say nothing: three seeds have two degrees of freedom, and t is 4.3027.
    alone = made_mean([0.4, 0.5, 0.6], spread=1e-9)
    assert widening_of(alone) == pytest.approx(4.3027 / normal, abs=1e-3)
    # Two seeds have one.
    pair = made_mean([0.49, 0.51], spread=1e-9)
    assert widening_of(pair) == pytest.approx(12.7062 / normal, abs=1e-3)
    # Two arms of equal spread have four, and an arm without any lends the other none.
    twin = made_mean([0.4, 0.5, 0.6], spread=1e-9, draw=2)
    assert widening_of(alone, twin) == pytest.approx(2.7764 / normal, abs=1e-3)
    untuned = made_mean([0.5, 0.5, 0.5], spread=1e-9)
    assert widening_of(untuned, alone) == pytest.approx(4.3027 / normal, abs=1e-3)
    # Seeds say nothing: 101 questions have 100, and t is 1.9840.
    of_questions = made_mean([0.5, 0.5, 0.5], spread=0.04)
    assert widening_of(of_questions) == pytest.approx(1.9840 / normal, abs=1e-3)


def test_degrees_of_freedom_are_satterthwaites() -> None:
    # Variances .01 over 100 degrees and .01 / 3 over 2: (.04 / 3)^2 / (1e-4 / 100 + 1e-4 / 18).
    mixed = made_mean([0.4, 0.5, 0.6], spread=0.1)
    degrees = (0.04 / 3) ** 2 / (1e-4 / 100 + 1e-4 / 18)
    expected = stats.t.ppf(0.975, degrees) / stats.norm.ppf(0.975)
    assert widening_of(mixed) == pytest.approx(expected, rel=1e-6)


def test_seeds_alone_have_the_width_of_welchs_interval() -> None:
    one = made_mean([0.40, 0.50, 0.60], spread=1e-9)
    two = made_mean([0.62, 0.60, 0.58, 0.60], spread=1e-9, draw=2)
    found = difference_interval(one, two)
    welch = stats.ttest_ind(two.shares, one.shares, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), abs=0.005)


def test_arms_share_their_questions_so_that_equal_arms_differ_by_nothing() -> None:
    rows = make_outcomes(3, seeds=1)
    drawn = resample_means({"a": rows, "b": rows})
    found = difference_interval(drawn["a"], drawn["b"])
    assert (drawn["a"].of_questions == drawn["b"].of_questions).all()
    # As much as Wilson leaves open where 0 of 200 questions differed: z^2 / (n + z^2).
    reach = pytest.approx(1.95996**2 / (200 + 1.95996**2), rel=1e-4)
    assert (-found.low, found.value, found.high) == (reach, 0, reach)


def test_outcomes_that_are_all_alike_prove_little_where_they_are_few() -> None:
    rows = [[True] * 10] * 3
    drawn = resample_means({"a": rows, "b": rows, "c": [[False] * 10] * 3})
    right, wrong = mean_interval(drawn["a"]), mean_interval(drawn["c"])
    known = wilson_interval(10, 10)
    assert (right.low, right.high) == pytest.approx((known.low, 1))
    assert (wrong.low, wrong.high) == pytest.approx((0, 1 - known.low))
    gap = difference_interval(drawn["a"], drawn["b"])
    assert gap.high == pytest.approx(1 - known.low)
    assert judge_difference(gap, 1.0, 3) is Verdict.unclear
    worst = difference_interval(drawn["a"], drawn["c"])
    assert (worst.low, worst.high) == pytest.approx((-1, -known.low))


def test_the_same_seed_gives_the_same_numbers() -> None:
    rows = make_outcomes(4, seeds=2)
    one, two = (mean_interval(resample_means({"a": rows}, seed=7)["a"]) for _ in range(2))
    assert one == two


def test_bounds_are_shares() -> None:
    rows = [[True] * 9 + [False], [True] * 10, [True] * 5 + [False] * 5]
    found = mean_interval(resample_means({"a": rows})["a"])
    assert 0 <= found.low < found.value < found.high == 1


def answer(
    generator: np.random.Generator, seeds: int, spread: float, hard: np.ndarray, level: float = 0.5
) -> list[list[bool]]:
    """Outcomes of an arm whose seeds move its accuracy by `spread`, a standard deviation."""
    easy = generator.normal(level, spread, (seeds, 1)) - hard
    return (generator.random(easy.shape) < easy).tolist()


@pytest.mark.parametrize("seeds", [3, 5])
def test_arms_that_do_not_differ_are_rarely_clear(seeds: int) -> None:
    """300 times two arms of one truth, whose seeds move accuracy by 13 points.

    With the plain bootstrap, and replies pooled over seeds in McNemar's test, more than one in
    ten looked clear.
    """
    generator = np.random.default_rng(1)
    clear = plainly = 0
    for trial in range(300):
        hard = generator.normal(0, 0.25, 100)
        one, two = (answer(generator, seeds, 0.13, hard) for _ in "ab")
        drawn = resample_means({"a": one, "b": two}, resamples=600, seed=trial)
        found = difference_interval(drawn["a"], drawn["b"])
        p = sign_flip_exact(sum_differences(zip(one, two, strict=True)))
        clear += p < ALPHA and not found.low <= 0 <= found.high
        plainly += is_plainly_clear(one, two, drawn)
    assert clear / 300 <= 0.07
    assert plainly / 300 > 0.1


def is_plainly_clear(
    one: list[list[bool]], two: list[list[bool]], drawn: dict[str, ResampledMean]
) -> bool:
    pooled = count_paired(list(chain(*one)), list(chain(*two)))
    short = ((len(one) - 1) / len(one)) ** 0.5
    moved = [drawn[name].of_questions + short * drawn[name].of_seeds for name in "ab"]
    low, high = np.quantile(moved[1] - moved[0], [0.025, 0.975])
    p = mcnemar_exact(pooled.only_first, pooled.only_second)
    return p < ALPHA and not low <= 0 <= high


def test_a_large_difference_of_steady_seeds_is_clear() -> None:
    generator = np.random.default_rng(2)
    clear = 0
    for trial in range(40):
        hard = generator.normal(0, 0.25, 100)
        one, two = (answer(generator, 3, 0.02, hard, level) for level in (0.4, 0.65))
        drawn = resample_means({"a": one, "b": two}, resamples=600, seed=trial)
        found = difference_interval(drawn["a"], drawn["b"])
        p = sign_flip_exact(sum_differences(zip(one, two, strict=True)))
        clear += p < ALPHA and found.low > 0
    assert clear >= 36

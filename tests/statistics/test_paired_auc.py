"""Areas resampled together, against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from caft.statistics import (
    Verdict,
    brier_score,
    judge_area,
    resample_areas,
    roc_auc,
    stratified_auc,
    wilson_interval,
)

WRONG = [False] * 5 + [True] * 5
UP = [1.0, 2.0, 2.0, 4.0, 3.0, 3.0, 5.0, 4.0, 6.0, 2.0]
FLAT = [1.0] * 10


def test_values_are_the_areas_and_ties_count_half() -> None:
    resampled = resample_areas({"up": UP, "flat": FLAT}, WRONG, resamples=10)
    assert resampled.values["up"] == pytest.approx(roc_auc_score(WRONG, UP))
    assert resampled.values["flat"] == 0.5
    assert set(resampled.draws["flat"]) == {0.5}
    assert resampled.n == resampled.interval("up").n == resampled.difference("up", "flat").n == 10


def test_the_same_seed_draws_the_same_rows() -> None:
    plain, same, other = (
        resample_areas({"up": UP}, WRONG, resamples=50, **seed).draws["up"]
        for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert (plain == same).all()
    assert (plain != other).any()
    strata = ["a", "b"] * 5
    assert stratified_auc(UP, WRONG, strata) == stratified_auc(UP, WRONG, strata, seed=0)
    assert stratified_auc(UP, WRONG, strata) != stratified_auc(UP, WRONG, strata, seed=1)


def test_the_same_rows_are_drawn_for_every_score() -> None:
    generator = np.random.default_rng(5)
    noisy = [value + generator.normal() for value in UP]
    resampled = resample_areas({"a": UP, "same": [10 * v + 3 for v in UP], "b": noisy}, WRONG)
    same = resampled.difference("a", "same")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    forth, back = resampled.difference("a", "b"), resampled.difference("b", "a")
    assert (forth.value, forth.low, forth.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )
    assert forth.low <= forth.value <= forth.high


def test_bounds_agree_with_a_plain_bootstrap_and_with_delong() -> None:
    generator = np.random.default_rng(1)
    wrong = generator.random(300) < 0.4
    values = generator.normal(size=300) + 0.8 * wrong
    interval = resample_areas({"x": list(values)}, list(wrong), resamples=2000).interval("x")
    hits, others = values[wrong], values[~wrong]
    # Which of the two is above the other, pair by pair; a resample is rows and columns of it.
    above = (hits[:, None] > others) + (hits[:, None] == others) / 2
    assert above.mean() == pytest.approx(roc_auc_score(wrong, values))
    plain = [
        above[generator.choice(hits.size, hits.size)][:, generator.choice(others.size, others.size)]
        .mean()
        for _ in range(2000)
    ]  # fmt: skip
    assert (interval.low, interval.high) == pytest.approx(
        np.quantile(plain, [0.025, 0.975]), abs=0.01
    )
    area = roc_auc(list(values), list(wrong))
    assert (interval.low, interval.high) == pytest.approx((area.low, area.high), abs=0.01)


def test_many_rows_are_drawn_in_blocks_without_changing_their_number() -> None:
    wrong = [place % 3 == 0 for place in range(9000)]
    resampled = resample_areas({"x": list(range(9000))}, wrong, resamples=500)
    assert resampled.draws["x"].shape == (500,)


def test_brier_over_all_options_by_hand() -> None:
    assert brier_score([[1.0, 0.0]], [0]) == 0.0
    assert brier_score([[1.0, 0.0]], [1]) == 2.0
    assert brier_score([[0.25] * 4], [2]) == pytest.approx(0.75)
    # (0.5 - 1)^2 + 0.3^2 + 0.2^2 = 0.38, and 0.5 for the even pair.
    assert brier_score([[0.5, 0.3, 0.2], [0.5, 0.5]], [0, 1]) == pytest.approx(0.44)


def draw_strata(rows: int, seed: int) -> tuple[list[float], list[bool], list[str]]:
    """Strata of different difficulty in which the score knows only the stratum."""
    generator = np.random.default_rng(seed)
    strata = generator.integers(0, 4, rows)
    wrong = generator.random(rows) < 0.15 + 0.2 * strata
    values = np.round(strata + generator.normal(size=rows), 1)
    return list(values), list(wrong), [f"s{place}" for place in strata]


def test_pairs_of_one_stratum_are_counted_as_by_hand() -> None:
    # In a: 2 against 1 and 3, one of two. In b: 5 against 5, a tie. c has no positive.
    scores = [2.0, 1.0, 3.0, 5.0, 5.0, 9.0, None]
    wrong = [True, False, False, True, False, False, True]
    area = stratified_auc(scores, wrong, ["a", "a", "a", "b", "b", "c", "c"])
    assert area.value == pytest.approx((1 + 0 + 0.5) / 3)
    assert (area.n, area.positives) == (5, 2)
    none = stratified_auc([None], [True], ["a"])
    assert (none.value, none.n, none.positives) == (None, 0, 0)
    none = stratified_auc([1.0, 2.0], [True, False], ["a", "b"])
    assert (none.value, none.low, none.n, none.reason) == (
        None, None, 0, "no subject has both right and wrong answers")  # fmt: skip


def test_one_stratum_is_the_plain_area_with_its_interval() -> None:
    values, wrong, _ = draw_strata(150, seed=3)
    area = stratified_auc(values, wrong, ["all"] * 150)
    assert area.value == pytest.approx(roc_auc_score(wrong, values))
    plain = resample_areas({"x": values}, wrong).interval("x")
    assert (area.low, area.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_an_estimate_that_knows_the_stratum_alone_is_at_chance_within() -> None:
    pooled, covered = 0.0, 0
    for seed in range(60):
        values, wrong, strata = draw_strata(200, seed)
        area = stratified_auc(values, wrong, strata, resamples=200)
        assert area.low is not None
        assert area.high is not None
        covered += area.low <= 0.5 <= area.high
        pooled += roc_auc_score(wrong, values) / 60
    # 95 in 100 expected, 57 of 60; a binomial is below 52 in 1 of 100 cases.
    assert pooled > 0.6
    assert covered >= 52


def test_perfect_order_within_few_pairs_is_no_certainty() -> None:
    area = stratified_auc([2.0, 1.0] * 4, [True, False] * 4, list("aabbccdd"))
    # Four pairs without a row in common, all in order.
    bounds = wilson_interval(4, 4)
    assert (area.value, area.low, area.high) == (1.0, pytest.approx(bounds.low), 1.0)
    assert stratified_auc([2.0, 1.0] * 4, [False, True] * 4, list("aabbccdd")).low == 0.0
    low = stratified_auc([2.0, 1.0] * 4, [True, False] * 4, list("aabbccdd"), 0.8).low
    assert low == pytest.approx(wilson_interval(4, 4, 0.8).low)
    # Two positives share their only negative: one pair.
    one = stratified_auc([2.0, 2.5, 1.0], [True, True, False], list("aaa"))
    assert (one.value, one.low) == (1.0, pytest.approx(wilson_interval(1, 1).low))
    assert stratified_auc([2.0, 1.0], [True, False], list("aa")).value == 1.0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.51, 0.6, Verdict.yes),
        (0.4, 0.59, Verdict.no),
        (0.2, 0.45, Verdict.no),
        (0.21, 0.79, Verdict.unclear),
        (0.5, 0.6, Verdict.unclear),
    ],
)
def test_an_area_is_judged_against_one_half(low: float, high: float, verdict: Verdict) -> None:
    assert judge_area(low, high, 5) is verdict
    assert judge_area(low, high, 4) is Verdict.unclear


def test_perfect_and_reversed_orders_leave_a_difference_open() -> None:
    rows = {
        "up": range(12),
        "other": [*range(5, -1, -1), *range(11, 5, -1)],
        "down": range(0, -12, -1),
    }
    areas = resample_areas({name: [float(n) for n in row] for name, row in rows.items()},
                           [False] * 6 + [True] * 6)  # fmt: skip
    alike, reversed_ = areas.difference("up", "other"), areas.difference("up", "down")
    assert alike.low < 0 == alike.value < alike.high
    assert reversed_.low == reversed_.value == -1.0 < reversed_.high < 0

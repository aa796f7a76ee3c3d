"""Areas resampled together, against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from caft.statistics import multiclass_brier_score, resample_areas, roc_auc

WRONG = [False] * 5 + [True] * 5
UP = [1.0, 2.0, 2.0, 4.0, 3.0, 3.0, 5.0, 4.0, 6.0, 2.0]
FLAT = [1.0] * 10


def test_values_are_the_areas_and_ties_count_half() -> None:
    resampled = resample_areas({"up": UP, "flat": FLAT}, WRONG, resamples=10)
    assert resampled.values["up"] == pytest.approx(roc_auc_score(WRONG, UP))
    assert resampled.values["flat"] == 0.5
    assert set(resampled.draws["flat"]) == {0.5}


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
    plain = []
    for _ in range(2000):
        rows = np.concatenate([
            generator.choice(np.flatnonzero(kind), kind.sum()) for kind in (wrong, ~wrong)
        ])  # fmt: skip
        plain.append(roc_auc_score(wrong[rows], values[rows]))
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
    assert multiclass_brier_score([[1.0, 0.0]], [0]) == 0.0
    assert multiclass_brier_score([[1.0, 0.0]], [1]) == 2.0
    assert multiclass_brier_score([[0.25] * 4], [2]) == pytest.approx(0.75)
    # (0.5 - 1)^2 + 0.3^2 + 0.2^2 = 0.38, and 0.5 for the even pair.
    assert multiclass_brier_score([[0.5, 0.3, 0.2], [0.5, 0.5]], [0, 1]) == pytest.approx(0.44)

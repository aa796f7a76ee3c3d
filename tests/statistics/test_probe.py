"""The probe against scikit-learn, and against what leaks would look like."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from caft.statistics import roc_auc
from caft.statistics.probe import (
    FEWEST_OF_A_KIND,
    cross_fit,
    divide_in_folds,
    fit_logistic,
)


def with_ones(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_the_fit_is_scikit_learns(strength: float) -> None:
    draw = np.random.default_rng(3)
    rows = draw.normal(size=(80, 6))
    event = rows[:, 0] + draw.normal(size=80) > 0.4
    weights = fit_logistic(with_ones(rows), event, strength, np.zeros(7))
    # Its C divides the penalty's factor, and its intercept is not penalised either.
    other = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000).fit(rows, event)
    assert weights[:-1] == pytest.approx(other.coef_[0], abs=1e-4)
    assert weights[-1] == pytest.approx(other.intercept_[0], abs=1e-4)


def test_without_any_feature_the_intercept_is_the_log_odds() -> None:
    event = np.array([True] * 3 + [False])
    (weight,) = fit_logistic(np.ones((4, 1)), event, 1.0, np.zeros(1))
    assert weight == pytest.approx(np.log(3), abs=1e-4)


def test_every_row_is_in_one_fold_and_every_fold_has_both_kinds() -> None:
    event = np.arange(53) % 5 == 0
    folds = divide_in_folds(event, 5)
    assert (np.sum(folds, axis=0) == 1).all()
    assert [int(event[fold].sum()) for fold in folds] == [3, 2, 2, 2, 2]
    assert [int(fold.sum()) for fold in folds] == [12, 11, 10, 10, 10]
    again = divide_in_folds(event, 5)
    assert all((one == other).all() for one, other in zip(folds, again, strict=True))


def test_no_row_is_judged_by_a_probe_that_has_seen_it() -> None:
    # Each row has a feature of its own: whoever has seen the row knows its label.
    event = np.arange(40) % 2 == 0
    inside, outside = cross_fit(np.eye(40), event.tolist(), np.eye(40))
    assert roc_auc(outside.tolist(), event.tolist()).value == 1.0
    # Unseen rows are all alike but for the folds that they are in.
    area = roc_auc(inside.tolist(), event.tolist()).value
    assert area is not None
    assert area < 0.7


def test_a_signal_is_found_whatever_its_unit_among_more_features_than_rows() -> None:
    draw = np.random.default_rng(5)
    rows = draw.normal(size=(120, 200)) * 1e-3
    event = draw.random(120) < 0.4
    rows[event, :10] += 2e-3
    rows[:, 10] = 5.0
    assert event.sum() > FEWEST_OF_A_KIND
    inside, outside = cross_fit(rows[:90].astype(np.float16), event[:90].tolist(), rows[90:])
    for values, truth in ((inside, event[:90]), (outside, event[90:])):
        assert ((values > 0) & (values < 1)).all()
        area = roc_auc(values.tolist(), truth.tolist()).value
        assert area is not None
        assert area > 0.7


def probe_of(rows: np.ndarray, event: np.ndarray) -> np.ndarray:
    inside, outside = cross_fit(rows, event.tolist(), rows)
    return np.concatenate([inside, outside])


def test_the_penalty_is_strong_where_there_is_nothing_to_see_and_weak_where_there_is() -> None:
    draw = np.random.default_rng(2)
    event = np.arange(60) % 2 == 0
    noise = draw.normal(size=(60, 20))
    assert np.abs(probe_of(noise, event) - 0.5).mean() < 0.1
    signal = noise.copy()
    signal[:, 0] = np.where(event, 1.0, -1.0) + 0.01 * noise[:, 0]
    assert np.abs(probe_of(signal, event) - np.tile(event, 2)).mean() < 0.1


def test_the_unit_and_the_origin_of_a_feature_say_nothing() -> None:
    draw = np.random.default_rng(4)
    rows = draw.normal(size=(60, 4))
    event = rows[:, 1] + draw.normal(size=60) > 0
    expected = probe_of(rows, event)
    moved = rows * [1e-3, 1.0, 10.0, 1e4] + [7.0, -1e4, 0.0, 1e6]
    assert probe_of(moved, event) == pytest.approx(expected, abs=1e-4)
    # The squares of these are beyond what 16 bits hold.
    wide = (rows * 2000).astype(np.float16)
    assert probe_of(wide, event) == pytest.approx(probe_of(wide.astype(np.float64), event))

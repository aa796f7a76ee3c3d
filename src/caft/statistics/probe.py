"""A logistic regression on hidden states that predicts an event, cross-fitted.

No row is judged by a probe that has seen it: rows of the training set are predicted by the probe of
the other folds, and further rows by the probe of them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caft.statistics.auc import Flags
from caft.statistics.intervals import Floats

FOLDS, INNER_FOLDS = 5, 3
FEWEST_OF_A_KIND = 10
"""Rows with the event, and rows without it, that a probe needs to be fitted at all."""

STRENGTHS = (1e4, 1e3, 1e2, 10.0, 1.0)
"""Of the penalty on squared weights of standardised features, which faces a sum over rows; the
strongest first, so that each fit starts near its result."""


def cross_fit(
    features: NDArray[Any], event: Sequence[bool], others: NDArray[Any]
) -> tuple[Floats, Floats]:
    """The event's probability: out of fold for `features` [rows, width], and for `others`.

    The strength of each probe is chosen by inner folds of the rows that it is fitted on. The same
    rows in the same order give the same folds. There must be `FEWEST_OF_A_KIND` of either kind.
    """
    happened = np.asarray(event, dtype=bool)
    assert min(happened.sum(), (~happened).sum()) >= FEWEST_OF_A_KIND, "too few rows of a kind"
    inside = np.empty(len(happened))
    for held in divide_in_folds(happened, FOLDS):
        fitted = _fit(features[~held], happened[~held])
        inside[held] = fitted(features[held])
    return inside, _fit(features, happened)(others)


def divide_in_folds(event: Flags, folds: int) -> list[Flags]:
    """Which rows each fold holds; every fold has its share of both kinds."""
    fold_of = np.empty(len(event), dtype=np.int64)
    for kind in (True, False):
        rows = [int(row) for row in np.flatnonzero(event == kind)]
        Random(f"folds of a probe {kind}").shuffle(rows)
        fold_of[rows] = np.arange(len(rows)) % folds
    return [fold_of == fold for fold in range(folds)]


class _Probe:
    """Weights and an intercept, over features standardised as those that they were fitted on."""

    def __init__(self, features: NDArray[Any]) -> None:
        self.centre = features.mean(0, dtype=np.float64)
        spread = features.std(0, dtype=np.float64)
        self.scale = np.where(spread > 0, spread, 1.0)
        self.weights = np.zeros(features.shape[1] + 1)

    def __call__(self, features: NDArray[Any]) -> Floats:
        from scipy.special import expit

        return np.asarray(expit(self.standardise(features) @ self.weights), dtype=np.float64)

    def standardise(self, features: NDArray[Any]) -> Floats:
        """Features in units of their spread, and a column of ones for the intercept."""
        standard = (features.astype(np.float64) - self.centre) / self.scale
        return np.concatenate([standard, np.ones((len(standard), 1))], axis=1)


def _fit(features: NDArray[Any], event: Flags) -> _Probe:
    losses = np.zeros(len(STRENGTHS))
    for held in divide_in_folds(event, INNER_FOLDS):
        probe = _Probe(features[~held])
        rows, further = probe.standardise(features[~held]), probe.standardise(features[held])
        for place, strength in enumerate(STRENGTHS):
            probe.weights = fit_logistic(rows, event[~held], strength, probe.weights)
            losses[place] += _log_loss(further @ probe.weights, event[held])
    probe = _Probe(features)
    rows, strength = probe.standardise(features), STRENGTHS[int(losses.argmin())]
    probe.weights = fit_logistic(rows, event, strength, probe.weights)
    return probe


def fit_logistic(rows: Floats, event: Flags, strength: float, start: Floats) -> Floats:
    """Weights [width] that minimise the summed loss and strength / 2 times their squares.

    The last column of `rows` is the intercept's, and is not penalised.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    penalty = np.full(rows.shape[1], strength)
    penalty[-1] = 0.0

    def measure(weights: Floats) -> tuple[float, Floats]:
        logits = rows @ weights
        loss = _log_loss(logits, event) + 0.5 * float(penalty @ weights**2)
        return loss, rows.T @ (expit(logits) - event) + penalty * weights

    found = minimize(measure, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x, dtype=np.float64)


def _log_loss(logits: Floats, event: Flags) -> float:
    """Summed over rows, in nats."""
    return float(np.logaddexp(0.0, np.where(event, -logits, logits)).sum())

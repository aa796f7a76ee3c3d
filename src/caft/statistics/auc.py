"""The ROC curve, the area under it, and the area's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from caft.statistics.intervals import Floats, normal_quantile

Flags: TypeAlias = NDArray[np.bool_]

_FEW = 30
"""Of fewer rows of a kind their own spread is hardly known: the bounds of DeLong and of the
bootstrap are too narrow (docs/decisions/0073-verdicts-of-one-run.md has the simulation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaUnderCurve:
    """The chance that a positive scores above a negative, ties counting half.

    `n` counts the rows that had a score, `positives` the positives among them. `value`, `low`
    and `high` are None when the area does not exist, and `reason` then says why.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    positives: int
    reason: str = ""


def roc_auc(
    scores: Sequence[float | None],
    positives: Sequence[bool],
    confidence: float = 0.95,
) -> AreaUnderCurve:
    """The area with DeLong's interval. Positives are the mistakes, and `reason` calls them wrong.

    Rows whose score is None are left out.
    """
    kept = [
        (score, flag) for score, flag in zip(scores, positives, strict=True) if score is not None
    ]
    values = np.array([score for score, _ in kept], dtype=np.float64)
    flags = np.array([flag for _, flag in kept], dtype=bool)
    assert not np.isnan(values).any(), "a score is NaN"
    reason = _reason_for_none(len(scores), flags)
    value, low, high = (None, None, None) if reason else _delong_interval(values, flags, confidence)
    return AreaUnderCurve(
        value=value,
        low=low,
        high=high,
        n=len(kept),
        positives=int(flags.sum()),
        reason=reason,
    )


def _reason_for_none(rows: int, flags: Flags) -> str:
    if rows == 0:
        return "there are no rows"
    if flags.size == 0:
        return f"none of the {rows} rows has this score"
    if 0 < flags.sum() < flags.size:
        return ""
    if flags.size == 1:
        rows_are = "the one row is" if flags.all() else "the one row is not"
    else:
        some = f"none of the {flags.size} rows is"
        rows_are = f"all {flags.size} rows are" if flags.all() else some
    return f"{rows_are} wrong, and an AUC needs both kinds"


def _delong_interval(values: Floats, flags: Flags, confidence: float) -> tuple[float, float, float]:
    """Area, lower and upper bound after DeLong et al. (1988), by the midranks of Sun and Xu (2014).

    DeLong's variance is 0 when the two kinds do not overlap at all; the bounds are then Newcombe's,
    so that ten perfectly ordered rows do not look certain. See `span_few_rows` for few of a kind.
    """
    from scipy.stats import rankdata

    positives, negatives = values[flags], values[~flags]
    m, n = positives.size, negatives.size
    together = rankdata(np.concatenate([positives, negatives]))
    # Each row's contribution: the share of the other kind on whose right side it is.
    of_positives = (together[:m] - rankdata(positives)) / n
    of_negatives = 1 - (together[m:] - rankdata(negatives)) / m
    area = float(of_positives.mean())
    variance = _sample_variance(of_positives) / m + _sample_variance(of_negatives) / n
    if variance == 0.0:
        return area, *newcombe_bounds(area, [(m, n)], confidence)
    reach = normal_quantile(confidence) * math.sqrt(variance)
    bounds = max(0.0, area - reach), min(1.0, area + reach)
    return area, *span_few_rows(area, bounds, [(m, n)], confidence)


def _sample_variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if values.size > 1 else 0.0


def span_few_rows(
    area: float,
    bounds: tuple[float, float],
    sizes: Sequence[tuple[int, int]],
    confidence: float,
) -> tuple[float, float]:
    """`bounds`, at least as far apart as Newcombe's where fewer than thirty rows are of a kind.

    One mistake has no variance, and resamples draw nothing else: its rank would look certain.
    `sizes` are positives and negatives by stratum, one pair for a plain area.
    """
    if min(map(sum, zip(*sizes, strict=True))) >= _FEW:
        return bounds
    low, high = newcombe_bounds(area, sizes, confidence)
    return min(bounds[0], low), max(bounds[1], high)


def newcombe_bounds(
    area: float, sizes: Sequence[tuple[int, int]], confidence: float
) -> tuple[float, float]:
    """The areas from which the observed one is exactly at the bound of `confidence`.

    Newcombe (2006), method 5: Hanley and McNeil's variance taken at the bound, as Wilson does
    for a proportion. Of several strata it is that of the mean over all of their pairs.
    """
    low, high = (_newcombe_bound(area, sizes, confidence, side) for side in (-1, 1))
    return low, high


def _newcombe_bound(
    area: float, sizes: Sequence[tuple[int, int]], confidence: float, side: int
) -> float:
    from scipy.optimize import brentq

    z, pairs = normal_quantile(confidence), sum(m * n for m, n in sizes)
    # Of pairs, and of pairs that share a row: (m + n) / 2 - 1 others on the average.
    shared = sum(m * n * ((m + n) / 2 - 1) for m, n in sizes)

    def excess(bound: float) -> float:
        alike = (1 - bound) / (2 - bound) + bound / (1 + bound)
        spread = bound * (1 - bound) * (pairs + shared * alike) / pairs**2
        return side * (bound - area) - z * math.sqrt(spread)

    end = 1.0 if side > 0 else 0.0
    if abs(end - area) < 1e-12:
        return end
    return float(brentq(excess, area + side * 1e-9, end))


@dataclass(frozen=True, slots=True)
class RocPoint:
    """True and false positive rate if rows at or above `threshold` are flagged.

    The first point of a curve flags nothing: its threshold is infinite.
    """

    threshold: float
    false_positive_rate: float
    true_positive_rate: float


def roc_points(scores: Sequence[float], positives: Sequence[bool]) -> tuple[RocPoint, ...]:
    """The curve from (0, 0) to (1, 1), one point for every distinct score, highest first."""
    values, flags = np.asarray(scores, dtype=np.float64), np.asarray(positives, dtype=bool)
    assert 0 < flags.sum() < flags.size, "a curve needs positives and negatives"
    distinct, place = np.unique(-values, return_inverse=True)
    hits = np.cumsum(np.bincount(place[flags], minlength=distinct.size)) / flags.sum()
    alarms = np.cumsum(np.bincount(place[~flags], minlength=distinct.size)) / (~flags).sum()
    rest = (
        RocPoint(float(-cut), float(alarm), float(hit))
        for cut, alarm, hit in zip(distinct, alarms, hits, strict=True)
    )
    return (RocPoint(float("inf"), 0.0, 0.0), *rest)

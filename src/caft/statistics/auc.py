"""The area under the ROC curve, and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from caft.statistics.wilson import normal_quantile

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

_RESAMPLED_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaUnderCurve:
    """The chance that a positive scores above a negative, ties counting half.

    `n` counts the rows that had a score, `positives` the positives among them, `missing` the
    rows without one. `value`, `low` and `high` are None when the area does not exist, and
    `reason` then says why.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    positives: int
    missing: int = 0
    reason: str = ""


def roc_auc(
    scores: Sequence[float | None],
    positives: Sequence[bool],
    confidence: float = 0.95,
    *,
    event: str = "positive",
) -> AreaUnderCurve:
    """The area with DeLong's interval. For a complexity estimate, positives are the mistakes.

    Rows whose score is None are left out and counted in `missing`. `event` is the word for a
    positive in the reason, such as "wrong".
    """
    assert len(scores) == len(positives), f"{len(scores)} scores for {len(positives)} outcomes"
    kept = [
        (score, flag) for score, flag in zip(scores, positives, strict=True) if score is not None
    ]
    values = np.array([score for score, _ in kept], dtype=np.float64)
    flags = np.array([flag for _, flag in kept], dtype=bool)
    assert not np.isnan(values).any(), "a score is NaN"
    missing, count = len(scores) - len(kept), int(flags.sum())
    reason = _reason_for_none(len(scores), flags, event)
    value, low, high = (None, None, None) if reason else delong_interval(values, flags, confidence)
    return AreaUnderCurve(
        value=value,
        low=low,
        high=high,
        n=len(kept),
        positives=count,
        missing=missing,
        reason=reason,
    )


def _reason_for_none(rows: int, flags: Flags, event: str) -> str:
    if rows == 0:
        return "there are no rows"
    if flags.size == 0:
        return f"none of the {rows} rows has this score"
    if flags.all():
        return f"all {flags.size} rows are {event}, and an AUC needs both kinds"
    if not flags.any():
        return f"none of the {flags.size} rows is {event}, and an AUC needs both kinds"
    return ""


def midranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: Floats = np.cumsum(counts) - (counts - 1) / 2
    return shared[place]


def delong_interval(
    values: Floats, flags: Flags, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Area, lower and upper bound after DeLong et al. (1988), by the midranks of Sun and Xu (2014).

    DeLong's variance is 0 when the two kinds do not overlap at all; the bounds are then Newcombe's
    (see `_newcombe_bound`), so that ten rows in perfect order do not pass for certainty.
    """
    positives, negatives = values[flags], values[~flags]
    m, n = positives.size, negatives.size
    together = midranks(np.concatenate([positives, negatives]))
    # What each row contributes: the share of the other kind that it is on the right side of.
    of_positives = (together[:m] - midranks(positives)) / n
    of_negatives = 1 - (together[m:] - midranks(negatives)) / m
    area = float(of_positives.mean())
    variance = _sample_variance(of_positives) / m + _sample_variance(of_negatives) / n
    if variance == 0.0:
        return (
            area,
            _newcombe_bound(area, m, n, confidence, -1),
            _newcombe_bound(area, m, n, confidence, +1),
        )
    reach = normal_quantile(confidence) * math.sqrt(variance)
    return area, max(0.0, area - reach), min(1.0, area + reach)


def _sample_variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if values.size > 1 else 0.0


def _newcombe_bound(area: float, m: int, n: int, confidence: float, side: int) -> float:
    """Where an area would have to lie for the observed one to be just `confidence` far away.

    Newcombe (2006), method 5: Hanley and McNeil's variance taken at the bound, as Wilson does
    for a proportion.
    """
    from scipy.optimize import brentq

    z, mean_size = normal_quantile(confidence), (m + n) / 2 - 1

    def excess(bound: float) -> float:
        spread = bound * (1 - bound) / (m * n)
        spread *= 1 + mean_size * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        return side * (bound - area) - z * math.sqrt(spread)

    end = 1.0 if side > 0 else 0.0
    if abs(end - area) < 1e-12:
        return end
    inner = area + side * 1e-9
    return float(brentq(excess, inner, end))


def bootstrap_auc_interval(
    values: Floats,
    flags: Flags,
    confidence: float = 0.95,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bounds of the area, positives and negatives resampled each among themselves."""
    assert flags.any(), "no positives"
    assert not flags.all(), "no negatives"
    generator = np.random.default_rng(seed)
    distinct, place = np.unique(values, return_inverse=True)
    of_kind = [np.bincount(place[kind], minlength=distinct.size) for kind in (flags, ~flags)]
    areas: list[Floats] = []
    # In blocks: resamples x distinct scores at once would be gigabytes for a large test set.
    for start in range(0, resamples, _RESAMPLED_AT_ONCE):
        block = min(_RESAMPLED_AT_ONCE, resamples - start)
        drawn = [generator.multinomial(kind.sum(), kind / kind.sum(), block) for kind in of_kind]
        areas.append(_areas_of_counts(drawn[0], drawn[1]))
    low, high = np.quantile(np.concatenate(areas), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _areas_of_counts(positives_BS: NDArray[np.int64], negatives_BS: NDArray[np.int64]) -> Floats:  # noqa: N803
    """One area a row; B resamples of how often each of S ascending scores occurs in each kind."""
    below = np.cumsum(negatives_BS, axis=1) - negatives_BS / 2
    pairs = positives_BS[0].sum() * negatives_BS[0].sum()
    areas: Floats = (positives_BS * below).sum(axis=1) / pairs
    return areas

"""The area under the ROC curve over pairs of one stratum: difficulty of a subject taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caft.statistics.auc import AreaUnderCurve, Flags, span_few_rows
from caft.statistics.intervals import Floats, percentile_interval, wilson_interval
from caft.statistics.paired_auc import resample_areas


def stratified_auc(
    scores: Sequence[float | None],
    positives: Sequence[bool],
    strata: Sequence[str],
    confidence: float = 0.95,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> AreaUnderCurve:
    """The chance that a positive scores above a negative of its own stratum, ties counting half.

    Every pair weighs the same. Bounds are percentiles of a bootstrap over rows, positives and
    negatives drawn separately, and `span_few_rows` widens those of few. Where no resample differs
    they contain Wilson's, for as many observations as there are pairs without a row in common. Rows
    without a score, and of strata that lack one of the two kinds, are in no pair and not in `n`.
    `reason` is of subjects, and of mistakes as positives.
    """
    values, flags, groups = _keep_paired(scores, positives, strata)
    if (n := int(flags.size)) == 0:
        reason = "no subject has both right and wrong answers"
        return AreaUnderCurve(value=None, low=None, high=None, n=0, positives=0, reason=reason)
    found = resample_areas(
        {"": values.tolist()}, flags.tolist(), confidence, groups, resamples=resamples, seed=seed
    )
    value, draws = found.values[""], found.draws[""]
    # Of few rows a resample may have no pair at all.
    bounds = percentile_interval(value, draws[~np.isnan(draws)], n, confidence)
    low, high = bounds.low, bounds.high
    if low == high:
        disjoint = sum(map(min, found.sizes))
        wilson = wilson_interval(round(value * disjoint), disjoint, confidence)
        low, high = min(low, wilson.low), max(high, wilson.high)
    low, high = span_few_rows(value, (low, high), found.sizes, confidence)
    return AreaUnderCurve(value=value, low=low, high=high, n=n, positives=int(flags.sum()))


def _keep_paired(
    scores: Sequence[float | None], positives: Sequence[bool], strata: Sequence[str]
) -> tuple[Floats, Flags, NDArray[np.int64]]:
    """Scores, kinds and strata (from 0) of the rows that are in a pair."""
    rows = [
        (score, flag, stratum)
        for score, flag, stratum in zip(scores, positives, strata, strict=True)
        if score is not None
    ]
    values = np.array([score for score, _, _ in rows], dtype=np.float64)
    flags = np.array([flag for _, flag, _ in rows], dtype=bool)
    _, groups = np.unique([stratum for _, _, stratum in rows], return_inverse=True)
    of_kind = [np.bincount(groups[kind], minlength=groups.size) for kind in (flags, ~flags)]
    kept = (np.minimum(*of_kind) > 0)[groups]
    return values[kept], flags[kept], groups[kept].astype(np.int64)

"""The area under the ROC curve over pairs of one stratum: difficulty of a subject taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caft.statistics.auc import AreaUnderCurve, Flags, span_few_rows
from caft.statistics.intervals import Floats, percentile_interval, wilson_interval
from caft.statistics.paired_auc import CELLS_AT_ONCE, draw_rows


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
    """
    values, flags, groups = _keep_paired(scores, positives, strata)
    n, hits = int(flags.size), int(flags.sum())
    if n == 0:
        reason = "no stratum has both positives and negatives"
        return AreaUnderCurve(value=None, low=None, high=None, n=0, positives=0, reason=reason)
    pairs = _Pairs(values, flags, groups)
    (value,) = pairs.areas(np.ones((1, n), dtype=np.int64))
    generator = np.random.default_rng(seed)
    block = max(1, CELLS_AT_ONCE // n)
    draws = np.concatenate([
        pairs.areas(draw_rows(flags, min(block, resamples - start), generator))
        for start in range(0, resamples, block)
    ])  # fmt: skip
    # Of few rows a resample may have no pair at all.
    found = percentile_interval(float(value), draws[~np.isnan(draws)], n, confidence)
    low, high = found.low, found.high
    if low == high:
        wilson = wilson_interval(round(value * pairs.disjoint), pairs.disjoint, confidence)
        low, high = min(low, wilson.low), max(high, wilson.high)
    low, high = span_few_rows(float(value), (low, high), pairs.of_kind, confidence)
    return AreaUnderCurve(value=float(value), low=low, high=high, n=n, positives=hits)


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


class _Pairs:
    """Rows by stratum and rising score; equal scores of a stratum in one group."""

    def __init__(self, values: Floats, flags: Flags, strata: NDArray[np.int64]) -> None:
        self.order = np.lexsort((values, strata))
        self.flags = flags[self.order]
        ordered, own = values[self.order], strata[self.order]
        begins = np.r_[True, own[1:] != own[:-1]]
        starts_group = begins | np.r_[True, ordered[1:] != ordered[:-1]]
        self.groups = np.flatnonzero(starts_group)
        self.strata = np.flatnonzero(begins[self.groups])
        self.sizes = np.diff(np.r_[self.strata, self.groups.size])
        of_kind = (np.bincount(own[kind]).tolist() for kind in (self.flags, ~self.flags))
        # Strata that were left out count 0 of either kind.
        self.of_kind = [(hits, others) for hits, others in zip(*of_kind, strict=True) if hits]
        self.disjoint = sum(map(min, self.of_kind))

    def areas(self, times_BR: NDArray[np.int64]) -> Floats:  # noqa: N803
        """One area a draw, NaN without a pair; B draws of how often each of R rows occurs."""
        drawn = times_BR[:, self.order]
        hits, others = (
            np.add.reduceat(drawn * kind, self.groups, axis=1) for kind in (self.flags, ~self.flags)
        )
        below = np.cumsum(others, axis=1) - others / 2
        before = (np.cumsum(others, axis=1) - others)[:, self.strata]
        below = below - np.repeat(before, self.sizes, axis=1)
        pairs = (
            np.add.reduceat(hits, self.strata, axis=1)
            * np.add.reduceat(others, self.strata, axis=1)
        ).sum(axis=1)
        areas: Floats = np.full(len(drawn), np.nan)
        np.divide((hits * below).sum(axis=1), pairs, out=areas, where=pairs > 0)
        return areas

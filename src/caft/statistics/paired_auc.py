"""Several scores of the same rows: their areas under the ROC curve, resampled together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caft.statistics.auc import Flags, span_few_rows
from caft.statistics.intervals import Floats, Interval, percentile_interval
from caft.statistics.verdict import FEWEST_TO_JUDGE

_CELLS_AT_ONCE = 4_000_000
"""Bootstrap draws times rows that are held in memory together."""


@dataclass(frozen=True, slots=True)
class ResampledAreas:
    """Areas by name: the observed `values`, and `draws` of the same resampled rows for all.

    `n` counts the rows, `sizes` are positives and negatives by stratum.
    """

    values: Mapping[str, float]
    draws: Mapping[str, Floats]
    n: int
    sizes: Sequence[tuple[int, int]]
    confidence: float

    def interval(self, name: str) -> Interval:
        """One area with its percentile bounds, or wider ones of few rows (`span_few_rows`)."""
        value = self.values[name]
        found = percentile_interval(value, self.draws[name], self.n, self.confidence)
        low, high = span_few_rows(value, (found.low, found.high), self.sizes, self.confidence)
        return Interval(value, low, high, self.n)

    def difference(self, first: str, second: str) -> Interval:
        """The second area minus the first, on the same rows (paired bootstrap).

        Of fewer than five rows of a kind hardly anything is resampled, and areas of 0 and 1 never
        move: the bounds are then those of both areas, squared and added (Zou and Donner, 2008,
        without their correlation).
        """
        value = self.values[second] - self.values[first]
        draws = self.draws[second] - self.draws[first]
        perfect = {self.values[first], self.values[second]} <= {0.0, 1.0}
        if min(map(sum, zip(*self.sizes, strict=True))) >= FEWEST_TO_JUDGE and not perfect:
            return percentile_interval(value, draws, self.n, self.confidence)
        one, two = self.interval(first), self.interval(second)
        low = value - math.hypot(two.value - two.low, one.high - one.value)
        high = value + math.hypot(two.high - two.value, one.value - one.low)
        return Interval(value, max(-1.0, low), min(1.0, high), self.n)


def resample_areas(
    scores: Mapping[str, Sequence[float]],
    positives: Sequence[bool],
    confidence: float = 0.95,
    strata: NDArray[np.int64] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> ResampledAreas:
    """Areas of scores over the same rows, with `resamples` bootstrap draws of the rows.

    Positives and negatives are drawn separately, and every score gets the same draw, so that
    differences between scores are paired. Both kinds must occur. With `strata`, by number, areas
    are over the pairs of one stratum, each of which has both kinds.
    """
    flags = np.asarray(positives, dtype=bool)
    assert 0 < flags.sum() < flags.size, "areas need positives and negatives"
    generator = np.random.default_rng(seed)
    groups = np.zeros(flags.size, dtype=np.int64) if strata is None else strata
    ordered = {
        name: _Pairs(np.asarray(row, dtype=np.float64), flags, groups)
        for name, row in scores.items()
    }
    draws: dict[str, list[Floats]] = {name: [] for name in scores}
    block = max(1, _CELLS_AT_ONCE // flags.size)
    for start in range(0, resamples, block):
        times = _draw_rows(flags, min(block, resamples - start), generator)
        for name, order in ordered.items():
            draws[name].append(order.areas(times))
    once = np.ones((1, flags.size), dtype=np.int64)
    return ResampledAreas(
        values={name: float(order.areas(once)[0]) for name, order in ordered.items()},
        draws={name: np.concatenate(parts) for name, parts in draws.items()},
        n=int(flags.size),
        sizes=next(iter(ordered.values())).of_kind,
        confidence=confidence,
    )


def _draw_rows(flags: Flags, count: int, generator: np.random.Generator) -> np.ndarray:
    """How often each row is drawn, [count, rows]."""
    times = np.empty((count, flags.size), dtype=np.int64)
    for kind in (flags, ~flags):
        size = int(kind.sum())
        times[:, kind] = generator.multinomial(size, np.full(size, 1 / size), count)
    return times


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

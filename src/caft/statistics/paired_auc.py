"""Several scores of the same rows: their areas under the ROC curve, resampled together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caft.statistics.area_verdict import FEWEST_TO_JUDGE
from caft.statistics.auc import Flags, span_few_rows
from caft.statistics.intervals import Floats, Interval, percentile_interval

CELLS_AT_ONCE = 4_000_000
"""Bootstrap draws times rows that are held in memory together."""


@dataclass(frozen=True, slots=True)
class ResampledAreas:
    """Areas by name: the observed `values`, and `draws` of the same resampled rows for all.

    `n` counts the rows, `positives` the positives among them.
    """

    values: Mapping[str, float]
    draws: Mapping[str, Floats]
    n: int
    positives: int
    confidence: float

    def interval(self, name: str) -> Interval:
        """One area with its percentile bounds, or wider ones of few rows (`span_few_rows`)."""
        value, sizes = self.values[name], [(self.positives, self.n - self.positives)]
        found = percentile_interval(value, self.draws[name], self.n, self.confidence)
        low, high = span_few_rows(value, (found.low, found.high), sizes, self.confidence)
        return Interval(value, low, high, self.n)

    def difference(self, first: str, second: str) -> Interval:
        """The second area minus the first, on the same rows (paired bootstrap).

        Of fewer than five rows of a kind hardly anything is resampled: the bounds are those of
        both areas, squared and added (Zou and Donner, 2008, without their correlation).
        """
        value = self.values[second] - self.values[first]
        draws = self.draws[second] - self.draws[first]
        if min(self.positives, self.n - self.positives) >= FEWEST_TO_JUDGE:
            return percentile_interval(value, draws, self.n, self.confidence)
        one, two = self.interval(first), self.interval(second)
        low = value - math.hypot(two.value - two.low, one.high - one.value)
        high = value + math.hypot(two.high - two.value, one.value - one.low)
        return Interval(value, max(-1.0, low), min(1.0, high), self.n)


def resample_areas(
    scores: Mapping[str, Sequence[float]],
    positives: Sequence[bool],
    confidence: float = 0.95,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> ResampledAreas:
    """Areas of scores over the same rows, with `resamples` bootstrap draws of the rows.

    Positives and negatives are drawn separately, and every score gets the same draw, so that
    differences between scores are paired. Both kinds must occur.
    """
    flags = np.asarray(positives, dtype=bool)
    assert 0 < flags.sum() < flags.size, "areas need positives and negatives"
    generator = np.random.default_rng(seed)
    ordered = {
        name: _Ordered(np.asarray(row, dtype=np.float64), flags) for name, row in scores.items()
    }
    draws: dict[str, list[Floats]] = {name: [] for name in scores}
    block = max(1, CELLS_AT_ONCE // flags.size)
    for start in range(0, resamples, block):
        times = draw_rows(flags, min(block, resamples - start), generator)
        for name, order in ordered.items():
            draws[name].append(order.areas(times))
    once = np.ones((1, flags.size), dtype=np.int64)
    return ResampledAreas(
        values={name: float(order.areas(once)[0]) for name, order in ordered.items()},
        draws={name: np.concatenate(parts) for name, parts in draws.items()},
        n=int(flags.size),
        positives=int(flags.sum()),
        confidence=confidence,
    )


def draw_rows(flags: Flags, count: int, generator: np.random.Generator) -> np.ndarray:
    """How often each row is drawn, [count, rows]."""
    times = np.empty((count, flags.size), dtype=np.int64)
    for kind in (flags, ~flags):
        size = int(kind.sum())
        times[:, kind] = generator.multinomial(size, np.full(size, 1 / size), count)
    return times


class _Ordered:
    """Rows in rising order of one score, equal scores in one group."""

    def __init__(self, values: Floats, flags: Flags) -> None:
        self.order = np.argsort(values)
        in_order = values[self.order]
        self.starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
        self.flags = flags[self.order]

    def areas(self, times_BR: np.ndarray) -> Floats:  # noqa: N803
        """One area a draw; B draws of how often each of R rows occurs."""
        drawn = times_BR[:, self.order]
        positives, negatives = (
            np.add.reduceat(drawn * kind, self.starts, axis=1) for kind in (self.flags, ~self.flags)
        )
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives[0].sum() * negatives[0].sum()
        areas: Floats = (positives * below).sum(axis=1) / pairs
        return areas

"""Several seeds of one arm, and several arms on the same questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from caft.statistics.wilson import Interval

Floats: TypeAlias = NDArray[np.float64]
Name = TypeVar("Name")

_RESAMPLED_AT_ONCE = 200


def mean_over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Mean of one number a seed with Student's interval; None for fewer than two seeds.

    It says how far tuning again with other seeds would move the mean, on the same questions.
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    reach = float(t.ppf(0.5 + confidence / 2, n - 1)) * math.sqrt(variance / n)
    return Interval(mean, mean - reach, mean + reach, n)


def resample_means(
    arms: Mapping[Name, Sequence[Sequence[bool]]], *, resamples: int = 2000, seed: int = 0
) -> dict[Name, Floats]:
    """Accuracies of every arm under the bootstrap over questions and seeds, one a resample.

    An arm holds one row of outcomes a seed, in the same order of questions everywhere. A resample
    draws questions once for all arms, which keeps their comparison paired, and seeds for each
    arm by itself, since equal numbers give different arms nothing in common. With S seeds the
    spread between them comes out (S - 1) / S too small, as it does in any bootstrap; with one
    seed it is not in it at all.
    """
    tables = {name: np.array(rows, dtype=np.float64) for name, rows in arms.items()}
    (questions,) = {table.shape[1] for table in tables.values()}
    assert questions > 0, "no questions"
    generator = np.random.default_rng(seed)
    drawn: dict[Name, list[Floats]] = {name: [] for name in tables}
    # In blocks: resamples x questions at once would be gigabytes for a large test set.
    for start in range(0, resamples, _RESAMPLED_AT_ONCE):
        block = min(_RESAMPLED_AT_ONCE, resamples - start)
        of_questions = _draw_shares(generator, questions, block)
        for name, table in tables.items():
            of_seeds = _draw_shares(generator, table.shape[0], block)
            drawn[name].append(((of_seeds @ table) * of_questions).sum(axis=1))
    return {name: np.concatenate(blocks) for name, blocks in drawn.items()}


def _draw_shares(generator: np.random.Generator, items: int, resamples: int) -> Floats:
    counts = generator.multinomial(items, np.full(items, 1 / items), resamples)
    shares: Floats = counts / items
    return shares


def percentile_interval(
    value: float, resampled: Floats, n: int, confidence: float = 0.95
) -> Interval:
    """An estimate with the percentile bounds of its resamples, which always hold it."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)), n)

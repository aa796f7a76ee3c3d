"""Cut points and classes. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from random import Random

from caft.errors import UserError
from caft.records import AnswerScore, Placement, difficulty


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """A class for every question. `thresholds` is empty where nothing was cut (random)."""

    placements: tuple[Placement, ...]
    thresholds: tuple[float, ...]

    @property
    def complexity_of(self) -> dict[str, str]:
        """The class by question id."""
        return {place.question_id: place.complexity for place in self.placements}


def estimate_values(scores: Sequence[AnswerScore], estimator: str) -> list[float]:
    """One estimate of every score, turned so that more means harder.

    UserError where the estimator or a value is missing.
    """
    values = []
    for score in scores:
        value = difficulty(estimator, score.estimates.get(estimator))
        if value is None:
            known = [name for name, given in score.estimates.items() if given is not None]
            raise UserError(
                f"split.estimator is {estimator}, which question {score.question_id} has no value "
                f"of; there is {', '.join(known)}"
            )
        values.append(value)
    return values


def quantile_cuts(values: Sequence[float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """Cut points at `quantiles` of the values, interpolated linearly."""
    import numpy as np

    return tuple(float(cut) for cut in np.quantile(np.asarray(values), list(quantiles)))


def place_by_cuts(
    values: Sequence[float], cuts: Sequence[float], classes: Sequence[str]
) -> list[str]:
    """Classes in the order of `values`: easy < first cut <= middle < second cut <= hard."""
    return [classes[bisect_right(cuts, value)] for value in values]


def place_at_random(
    count: int, quantiles: Sequence[float], classes: Sequence[str], random: Random
) -> list[str]:
    """Classes in a drawn order, of the sizes that `quantile_cuts` gives to different values."""
    last = max(count - 1, 0)
    bounds = [0, *(ceil(quantile * last) for quantile in quantiles), count]
    drawn = [
        name
        for name, (low, high) in zip(classes, pairwise(bounds), strict=True)
        for _ in range(high - low)
    ]
    random.shuffle(drawn)
    return drawn

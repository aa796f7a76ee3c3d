"""Cut points and classes. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf
from random import Random

from caft.errors import UserError
from caft.estimators import ESTIMATORS, difficulty
from caft.records import AnswerScore


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """A class for every question, by its id. `thresholds` is empty where nothing was cut (random).

    `held_out_by` names the estimator that placed the validation and test rows, if it is another
    one. `unreadable` counts rows whose estimate could not be read: they are in the last class.
    """

    complexity_of: Mapping[str, str]
    thresholds: tuple[float, ...]
    held_out_by: str = ""
    unreadable: int = 0


def estimate_values(scores: Sequence[AnswerScore], estimator: str) -> list[float]:
    """One estimate of every score, turned so that more means harder.

    A row whose reply could not be read, of a model, a judge or a teacher, counts as infinitely
    hard. UserError if the estimator or a value is missing without such a reason.
    """
    known = [difficulty(estimator, score.estimates.get(estimator)) for score in scores]
    excused = ESTIMATORS[estimator].may_be_missing and any(value is not None for value in known)
    if not excused and None in known:
        score = scores[known.index(None)]
        there = [name for name, given in score.estimates.items() if given is not None]
        raise UserError(
            f"split.estimator is {estimator}, which question {score.question_id} has no value "
            f"of; there is {', '.join(there)}"
        )
    return [inf if value is None else value for value in known]


def quantile_cuts(values: Sequence[float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """Cut points at `quantiles` of the values, interpolated linearly."""
    import numpy as np

    # An unreadable row counts as larger than all others, by a finite amount that keeps the cut a
    # number.
    above = max((value for value in values if value != inf), default=0.0) + 1.0
    finite = np.asarray([min(value, above) for value in values])
    return tuple(float(cut) for cut in np.quantile(finite, list(quantiles)))


def shares_below(placed: Sequence[str], classes: Sequence[str]) -> list[float]:
    """The share of rows in the classes below each cut, from the placed rows."""
    return [
        sum(classes.index(name) <= cut for name in placed) / len(placed)
        for cut in range(len(classes) - 1)
    ]


def place_by_cuts(
    values: Sequence[float], cuts: Sequence[float], classes: Sequence[str]
) -> list[str]:
    """Classes in the order of `values`: easy < first cut <= middle < second cut <= hard."""
    return [classes[bisect_right(cuts, value)] for value in values]


def place_at_random(
    count: int, quantiles: Sequence[float], classes: Sequence[str], random: Random
) -> list[str]:
    """Classes at random, with the sizes that `quantile_cuts` gives to distinct values."""
    last = max(count - 1, 0)
    bounds = [0, *(ceil(quantile * last) for quantile in quantiles), count]
    drawn = [
        name
        for name, (low, high) in zip(classes, pairwise(bounds), strict=True)
        for _ in range(high - low)
    ]
    random.shuffle(drawn)
    return drawn

"""Cut points and classes. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf, log
from random import Random

from caft.errors import UserError
from caft.estimators import ESTIMATORS, difficulty
from caft.packed import values_of
from caft.records import AnswerScore


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """A class for every question, by its id. `thresholds` bound the classes of training rows.

    They are empty where these were drawn, or cut inside each subject.

    `held_out_by` names the estimator that placed the validation and test rows, if it is another
    one. `unreadable` counts rows whose estimate could not be read: they count as hardest, and are
    in the last class, into which a sampled split is only likelier to draw them.
    """

    complexity_of: Mapping[str, str]
    thresholds: tuple[float, ...]
    held_out_by: str = ""
    unreadable: int = 0

    def count(self, ids: Iterable[str]) -> Counter[str]:
        """How many of these questions are in each class."""
        return Counter(self.complexity_of[name] for name in ids)


def estimate_values(scores: Sequence[AnswerScore], estimator: str) -> list[float]:
    """One estimate of every score, turned so that more means harder.

    A row whose reply could not be read, of a model, a judge or a teacher, counts as infinitely
    hard. UserError if the estimator or a value is missing without such a reason.
    """
    given = values_of(scores, "estimates", estimator)
    known = [difficulty(estimator, value) for value in given]
    excused = ESTIMATORS[estimator].may_be_missing and any(value is not None for value in known)
    if not excused and None in known:
        score = scores[known.index(None)]
        there = [name for name, value in score.estimates.items() if value is not None]
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
    drawn = _in_order(class_sizes(count, quantiles, classes))
    random.shuffle(drawn)
    return drawn


def place_sampled(
    values: Sequence[float],
    quantiles: Sequence[float],
    classes: Sequence[str],
    temperature: float,
    random: Random,
) -> list[str]:
    """Classes of the sizes of `place_at_random`, drawn by exp(rank / temperature).

    Ranks from 0 to 1, equal values sharing their mean. The keys rank / temperature + Gumbel noise,
    from the largest down, are an order of draws without replacement with those weights (Kool et
    al. 2019, "Stochastic beams and where to find them", section 2): its first are the last class.
    Multiplied by the temperature, they stay finite near 0.
    """
    from scipy.stats import rankdata

    noise = [-log(-log(_open_unit(random))) for _ in values]
    ranks = ((rankdata(values) - 1) / max(len(values) - 1, 1)).tolist()
    keys = [rank + temperature * gumbel for rank, gumbel in zip(ranks, noise, strict=True)]
    if temperature > 1:
        keys = [rank / temperature + gumbel for rank, gumbel in zip(ranks, noise, strict=True)]
    order = sorted(range(len(values)), key=keys.__getitem__)
    sizes = class_sizes(len(values), quantiles, classes)
    placed = dict(zip(order, _in_order(sizes), strict=True))
    return [placed[place] for place in range(len(values))]


def class_sizes(count: int, quantiles: Sequence[float], classes: Sequence[str]) -> dict[str, int]:
    """The sizes that `quantile_cuts` gives to `count` distinct values, by class."""
    last = max(count - 1, 0)
    bounds = [0, *(ceil(quantile * last) for quantile in quantiles), count]
    return {name: high - low for name, (low, high) in zip(classes, pairwise(bounds), strict=True)}


def _in_order(sizes: Mapping[str, int]) -> list[str]:
    return [name for name, size in sizes.items() for _ in range(size)]


def _open_unit(random: Random) -> float:
    """A number between 0 and 1, neither of them."""
    # The largest draw would be rounded up to 1, whose logarithm has none.
    return min((random.getrandbits(53) + 0.5) / 2**53, 1 - 2**-53)

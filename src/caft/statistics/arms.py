"""Arms on the same questions, each under several seeds: their differences and tests.

This is all that a sweep's report says about two arms, and `calibrate.py` simulates how often it is
right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from caft.statistics.intervals import Interval
from caft.statistics.paired import (
    count_paired,
    sign_flip_exact,
    smallest_paired_difference,
    span_few,
    sum_differences,
)
from caft.statistics.seeds import (
    ResampledMean,
    detectable_difference,
    difference_interval,
    joint_level,
    resample_means,
)
from caft.statistics.verdict import ALPHA

Outcomes: TypeAlias = Mapping[int, Sequence[bool]]
"""Whether each reply was right, by seed; questions in the same order for every seed and arm."""

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmsCompared:
    """The second arm minus the first.

    `difference` is over questions and seeds, `p_value` over other questions put to these models,
    not corrected for other comparisons. `seeds` is the number of pairs of seeds that the test
    rests on, which is that of the arm with fewer. `only_first` and `only_second` count the replies
    that one of the two alone got right, over these pairs. `detectable` is the smallest difference
    that interval and test would find with 80% power, if any: over questions and seeds, as the
    interval is, and corrected for all comparisons, as Holm's first step is; of one pair of seeds,
    by McNemar's test.
    """

    difference: Interval
    p_value: float
    seeds: int
    only_first: int
    only_second: int
    detectable: float | None


def compare_arms(
    arms: Mapping[Name, Outcomes],
    pairs: Sequence[tuple[Name, Name]],
    confidence: float = 0.95,
    *,
    together: bool = False,
    tests: int | None = None,
    seed: int = 0,
) -> list[ArmsCompared]:
    """The pairs of arms, given by name. All arms share one resampling of their questions.

    The intervals hold each for itself, or `together`, all at once (see `joint_level`). `tests` is
    the number of comparisons that p is corrected for; None: these pairs.
    """
    means = resample_means({name: [*rows.values()] for name, rows in arms.items()}, seed=seed)
    couples = [(means[one], means[two]) for one, two in pairs]
    level = joint_level(couples, confidence) if together else None
    return [
        _compare(arms[one], arms[two], couple, confidence, level, tests or len(pairs))
        for (one, two), couple in zip(pairs, couples, strict=True)
    ]


def _compare(  # noqa: PLR0917
    first: Outcomes,
    second: Outcomes,
    means: tuple[ResampledMean, ResampledMean],
    confidence: float,
    level: float | None,
    tests: int,
) -> ArmsCompared:
    gaps = np.subtract(*(np.mean([*rows.values()], axis=0) for rows in (second, first)))
    # Where seeds differ, a question says as much as several: equal variance (Rao and Scott, 1992).
    sizes = np.abs(gaps).sum() / (gaps**2).sum() if gaps.any() else 1.0
    lost, won = float(-gaps[gaps < 0].sum()) * sizes, float(gaps[gaps > 0].sum()) * sizes
    difference = difference_interval(*means, confidence, level)
    pairs = pair_seeds(first, second)
    outcome = count_paired(*(np.concatenate(rows).tolist() for rows in zip(*pairs, strict=True)))
    differing = (outcome.only_first + outcome.only_second) / outcome.n
    return ArmsCompared(
        difference=span_few(difference, lost, won, difference.n * sizes, level or confidence),
        p_value=sign_flip_exact(sum_differences(pairs)),
        seeds=len(pairs),
        only_first=outcome.only_first,
        only_second=outcome.only_second,
        detectable=detectable_difference(*means, level or confidence, tests)
        if level or len(pairs) > 1
        else smallest_paired_difference(difference.n, differing, alpha=ALPHA / tests),
    )


def pair_seeds(first: Outcomes, second: Outcomes) -> list[tuple[Sequence[bool], Sequence[bool]]]:
    """Outcomes of both arms, paired by equal seeds, and those of the other seeds in order.

    As many pairs as the arm with fewer seeds has.
    """
    shared = [seed for seed in first if seed in second]
    others = ([rows for seed, rows in arm.items() if seed not in shared] for arm in (first, second))
    return [(first[seed], second[seed]) for seed in shared] + list(zip(*others, strict=False))

"""Several seeds of one arm, and several arms on the same questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import NormalDist, fmean, stdev
from typing import TypeVar

import numpy as np

from caft.statistics.intervals import (
    FEW,
    Floats,
    Interval,
    normal_quantile,
    open_interval,
    satterthwaite,
    student_quantile,
    wilson_interval,
)
from caft.statistics.verdict import ALPHA, FEWEST_SEEDS

Name = TypeVar("Name")

_RESAMPLED_AT_ONCE = 200


def mean_over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Mean of one share a seed with Student's interval, within 0 to 1.

    None for fewer than three seeds: two that happen to agree would have no width.
    """
    n = len(values)
    if n < FEWEST_SEEDS:
        return None
    mean = fmean(values)
    reach = student_quantile(confidence, n - 1) * stdev(values) / math.sqrt(n)
    return Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach), n)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResampledMean:
    """An arm's accuracy under resampled questions, and what resampled seeds add to it.

    `shares` is the accuracy of every seed; `of_seeds` is centred at 0.
    """

    shares: Floats
    questions: int
    of_questions: Floats
    of_seeds: Floats

    @property
    def value(self) -> float:
        """Mean accuracy over the seeds, on the questions as they are."""
        return float(self.shares.mean())

    @property
    def variance_of_seeds(self) -> float:
        """Estimated variance of the mean over seeds, from seed to seed; 0 for one seed."""
        return float(self.shares.var(ddof=1) / self.shares.size) if self.shares.size > 1 else 0.0


def resample_means(
    arms: Mapping[Name, Sequence[Sequence[bool]]], *, resamples: int = 2000, seed: int = 0
) -> dict[Name, ResampledMean]:
    """Accuracies of every arm under the bootstrap over questions and seeds.

    An arm holds one row of outcomes a seed, in the same order of questions everywhere. A resample
    draws questions once for all arms, which keeps their comparison paired, and seeds by arm.
    """
    # In one order whatever the caller's: else two tables of one page differ on the same pair.
    tables = {name: np.array(arms[name], dtype=np.float64) for name in sorted(arms, key=str)}
    (questions,) = {table.shape[1] for table in tables.values()}
    assert questions > 0, "no questions"
    generator = np.random.default_rng(seed)
    means_AQ = np.stack([table.mean(axis=0) for table in tables.values()])  # noqa: N806
    # Questions on which every arm did alike are drawn as one: the same distribution, and a few
    # patterns in place of thousands of questions.
    patterns_AP, alike = np.unique(means_AQ, axis=1, return_counts=True)  # noqa: N806
    of_questions: list[Floats] = []
    # In blocks: resamples x patterns at once may be gigabytes for a large test set.
    for start in range(0, resamples, _RESAMPLED_AT_ONCE):
        block = min(_RESAMPLED_AT_ONCE, resamples - start)
        drawn = generator.multinomial(questions, alike / questions, block)
        of_questions.append(drawn @ patterns_AP.T / questions)
    drawn_RA = np.concatenate(of_questions)  # noqa: N806
    return {
        name: ResampledMean(
            shares=table.mean(axis=1),
            questions=questions,
            of_questions=drawn_RA[:, place],
            of_seeds=_resample_seeds(generator, table.mean(axis=1), resamples),
        )
        for place, (name, table) in enumerate(tables.items())
    }


def _resample_seeds(generator: np.random.Generator, shares: Floats, resamples: int) -> Floats:
    """Shifts of the mean by resampled seeds, with the unbiased variance of the seeds.

    The plain bootstrap of S seeds has (S - 1) / S of their variance: it is scaled up.
    """
    seeds = shares.size
    if seeds == 1:
        return np.zeros(resamples)
    moved: Floats = _draw_shares(generator, seeds, resamples) @ (shares - shares.mean())
    return moved * math.sqrt(seeds / (seeds - 1))


def _draw_shares(generator: np.random.Generator, items: int, resamples: int) -> Floats:
    counts = generator.multinomial(items, np.full(items, 1 / items), resamples)
    shares: Floats = counts / items
    return shares


def mean_interval(mean: ResampledMean, confidence: float = 0.95) -> Interval:
    """An arm's accuracy with bounds over questions and seeds, within 0 to 1.

    One seed is a plain proportion: Wilson's interval, as in the report of its run. With fewer than
    five questions right, or wrong, resamples of several seeds rarely hold any of them; there the
    bounds are at least as far apart as Wilson's.
    """
    right, n = mean.value * mean.questions, mean.questions
    if mean.shares.size == 1:
        return wilson_interval(round(right), n, confidence)
    drawn = _widen(mean.value, mean.of_questions, mean.of_seeds, [mean], confidence)
    found = open_interval(mean.value, drawn, n, confidence, least=0.0)
    if min(right, n - right) >= FEW:
        return found
    low = wilson_interval(math.floor(round(right, 6)), n, confidence).low
    high = wilson_interval(math.ceil(round(right, 6)), n, confidence).high
    return Interval(found.value, min(found.low, low), max(found.high, high), n)


def difference_interval(
    first: ResampledMean,
    second: ResampledMean,
    confidence: float = 0.95,
    level: float | None = None,
) -> Interval:
    """Accuracy of the second arm minus the first, with bounds over questions and seeds.

    Both come from one call of `resample_means`. The seeds' spread includes some of the questions'
    spread, so the interval is too wide rather than too narrow. `level` is that of `joint_level`:
    the bounds are moved apart as far as its quantile is from that of `confidence`.
    """
    value = second.value - first.value
    of_questions = second.of_questions - first.of_questions
    of_seeds = second.of_seeds - first.of_seeds
    drawn = _widen(value, of_questions, of_seeds, [first, second], confidence, level)
    return open_interval(value, drawn, first.questions, confidence, least=-1.0)


def joint_level(
    pairs: Sequence[tuple[ResampledMean, ResampledMean]], confidence: float = 0.95
) -> float:
    """The confidence of each difference with which all of them hold together; above `confidence`.

    The largest |t| of a resample (Westfall and Young, 1993, Resampling-Based Multiple Testing;
    Beran, 1988, JASA 83: each difference has an equal share of the error). A resample moves every
    difference by some part of the distance that `confidence` alone allows; the largest part is
    below the ratio of the two normal quantiles in `confidence` of the resamples. Arms that share
    questions, or a control, move together, and cost less than Bonferroni's correction. One pair has
    `confidence` itself.
    """
    generator = np.random.default_rng(0)
    # Few seeds resample to few values, whose largest |t| is too small: they are drawn as normal.
    of_seeds = {
        id(mean): generator.normal(0, math.sqrt(mean.variance_of_seeds), mean.of_seeds.size)
        for mean in chain(*pairs)
    }
    shifts = [
        np.abs(two.of_questions - two.value + of_seeds[id(two)]
               - (one.of_questions - one.value + of_seeds[id(one)]))
        for one, two in pairs
    ]  # fmt: skip
    reaches = [float(np.quantile(shift, confidence)) for shift in shifts]
    ratios = [shift / reach for shift, reach in zip(shifts, reaches, strict=True) if reach > 0]
    if len(ratios) < 2:
        return confidence
    largest = float(np.quantile(np.max(ratios, axis=0), confidence))
    return 2 * NormalDist().cdf(largest * normal_quantile(confidence)) - 1


def detectable_difference(
    first: ResampledMean, second: ResampledMean, level: float, tests: int, power: float = 0.8
) -> float | None:
    """The true difference that would be seen by interval and by test with this power.

    The interval at `level` over other questions and seeds would exclude 0, and the test over
    questions, corrected for so many `tests` as Holm's first step is, would be significant. None
    where nothing varies, and above 1, which no difference of shares can be.
    """
    from scipy.stats import t

    of_questions = second.of_questions - first.of_questions
    variance, degrees = _combine(of_questions, [first, second])
    if not variance:
        return None
    error = math.sqrt(variance)
    by_interval = student_quantile(level, degrees) * error
    by_test = normal_quantile(1 - ALPHA / tests) * float(of_questions.std())
    seen = max(by_interval, by_test) + float(t.ppf(power, degrees)) * error
    return seen if seen <= 1 else None


def _widen(  # noqa: PLR0917
    value: float,
    of_questions: Floats,
    of_seeds: Floats,
    means: Sequence[ResampledMean],
    confidence: float,
    level: float | None = None,
) -> Floats:
    """Resamples around `value`, spread by Student's quantile over the normal one.

    Percentile bounds of few observations are too narrow twice over: the variance lacks a factor
    S / (S - 1), see `_resample_seeds`, and they use z in place of t (Hesterberg, 2015, What
    Teachers Should Know About the Bootstrap).
    """
    variance, degrees = _combine(of_questions, means)
    widening = 1.0
    if variance:
        student = student_quantile(level or confidence, degrees)
        widening = student / normal_quantile(confidence)
    drawn: Floats = value + widening * (of_questions + of_seeds - value)
    return drawn


def _combine(of_questions: Floats, means: Sequence[ResampledMean]) -> tuple[float, float]:
    """The variance over questions and seeds, and its degrees of freedom; (0, 0) for none."""
    known = [(float(of_questions.var()), means[0].questions - 1)]
    known += [(mean.variance_of_seeds, mean.shares.size - 1) for mean in means]
    known = [(variance, degrees) for variance, degrees in known if variance > 0 and degrees > 0]
    return satterthwaite(known) if known else (0.0, 0.0)

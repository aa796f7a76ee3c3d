"""Two models on the same questions: only questions on which they differ are informative."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from caft.statistics.intervals import (
    FEW,
    Floats,
    Interval,
    normal_quantile,
    percentile_interval,
    satterthwaite,
    student_quantile,
)

# At exactly 0 the spread is 0 too, and a difference of 0 would count as a root.
_NEXT_TO_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutcome:
    """Of `n` questions that two models were asked: how often one of them alone was right."""

    n: int
    only_first: int
    only_second: int

    @property
    def difference(self) -> float:
        """Accuracy of the second model minus that of the first."""
        return (self.only_second - self.only_first) / self.n


def count_paired(first: Sequence[bool], second: Sequence[bool]) -> PairedOutcome:
    """Pair two models' outcomes; position i is the same question in both."""
    assert len(first) == len(second), f"{len(first)} outcomes against {len(second)}"
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return PairedOutcome(
        n=len(first),
        only_first=int((one & ~two).sum()),
        only_second=int((~one & two).sum()),
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test; 1 when the models never differ."""
    from scipy.stats import binomtest

    differing = only_first + only_second
    return float(binomtest(only_first, differing).pvalue) if differing else 1.0


def paired_difference(
    outcome: PairedOutcome, confidence: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Accuracy of the second minus the first, with percentile bounds of the paired bootstrap.

    Resampling n questions with replacement is one multinomial draw of the three possible
    differences (-1, 0, +1). Where few point one way, the bounds are those of `span_few`.
    """
    n = outcome.n
    assert n > 0, "no questions"
    same = n - outcome.only_first - outcome.only_second
    shares = np.array([outcome.only_first, same, outcome.only_second]) / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, resamples)
    found = percentile_interval(outcome.difference, (drawn[:, 2] - drawn[:, 0]) / n, n, confidence)
    return span_few(found, outcome.only_first, outcome.only_second, n, confidence)


def span_few(found: Interval, lost: float, won: float, n: float, confidence: float) -> Interval:
    """At least as wide as `score_bounds`, where fewer than five questions were lost, or won.

    Resamples of one loss and no win have no win either: percentiles would rule out a gain that
    chance alone has hidden.
    """
    if min(lost, won) >= FEW:
        return found
    low, high = score_bounds(n, lost, won, confidence)
    return Interval(found.value, min(found.low, low), max(found.high, high), found.n)


def score_difference(outcome: PairedOutcome, confidence: float = 0.95) -> Interval:
    """As `paired_difference`, with the bounds of the score test alone (see `score_bounds`)."""
    n, lost, won = outcome.n, outcome.only_first, outcome.only_second
    return Interval(outcome.difference, *score_bounds(n, lost, won, confidence), n)


def score_bounds(n: float, lost: float, won: float, confidence: float) -> tuple[float, float]:
    """Bounds of (won - lost) / n by the score test of paired proportions (Tango, 1998, eq. 8).

    They hold where hardly any answer changed. Of several seeds, `n`, `lost` and `won` are the
    numbers of single outcomes that would say as much.
    """
    from scipy.optimize import brentq

    assert n > 0, "no questions"
    value, differing = (won - lost) / n, won + lost
    z = normal_quantile(confidence)

    def excess(gap: float) -> float:
        """Positive where a true difference of `gap` is ruled out."""
        linear = (2 - value) * n * gap - differing
        root = math.sqrt(max(0.0, linear**2 + 8 * n * lost * gap * (1 - gap)))
        lost_share = (root - linear) / (4 * n)
        spread = n * (2 * lost_share + gap * (1 - gap))
        return n * abs(value - gap) - z * math.sqrt(max(0.0, spread))

    below, above = value - _NEXT_TO_NOTHING, value + _NEXT_TO_NOTHING
    low = brentq(excess, -1.0, below) if below > -1 else -1.0
    high = brentq(excess, above, 1.0) if above < 1 else 1.0
    return float(low), float(high)


def smallest_paired_difference(
    n: int,
    differing: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    seeds: int = 1,
    spread: float = 0.0,
) -> float | None:
    """The smallest difference that would be detected on n questions put to both models.

    `differing` is the share of questions on which exactly one of the two is right. With `spread`,
    the standard deviation of accuracy from seed to seed, it is the difference of two means over
    `seeds` (2 or more); without, that of two models by McNemar's test (Connor, 1987). None if no
    difference would be significant, such as one of all `differing` questions.
    """
    from scipy.optimize import brentq

    assert n > 0, "no questions"
    assert 0 <= differing <= 1, f"share of differing questions is {differing}"
    assert seeds > 1 or not spread, "one seed shows no spread"
    of_questions, of_seeds = differing / n, 2 * spread**2 / seeds
    for_alpha, for_power = _quantiles(alpha, power, of_questions, of_seeds, n, seeds)

    def excess(gap: float) -> float:
        shown = math.sqrt(max(0.0, of_questions - gap * gap / n) + of_seeds)
        return gap - for_alpha * math.sqrt(of_questions + of_seeds) - for_power * shown

    # A difference that seeds may hide can exceed the share that differs without any.
    largest = 1.0 if spread else differing
    if largest <= _NEXT_TO_NOTHING or excess(largest) < 0:
        return None
    return float(brentq(excess, _NEXT_TO_NOTHING, largest))


def _quantiles(  # noqa: PLR0917
    alpha: float, power: float, of_questions: float, of_seeds: float, n: int, seeds: int
) -> tuple[float, float]:
    """Normal quantiles, or Student's with Satterthwaite's degrees of freedom if seeds vary."""
    if not of_seeds:
        return normal_quantile(1 - alpha), NormalDist().inv_cdf(power)
    from scipy.stats import t

    of_arm = (of_seeds / 2, seeds - 1)
    _, degrees = satterthwaite([(of_questions, max(1, n - 1)), of_arm, of_arm])
    return student_quantile(1 - alpha, degrees), float(t.ppf(power, degrees))


# --- Several seeds: a question is one observation -----------------------------------------------


def sum_differences(pairs: Iterable[tuple[Sequence[bool], Sequence[bool]]]) -> list[int]:
    """For each question, in how many seeds the second model alone was right, minus the first.

    A pair is both models' outcomes under one seed; position i is the same question in all.
    """
    gaps = [np.subtract(second, first, dtype=np.int64) for first, second in pairs]
    summed: list[int] = np.sum(gaps, axis=0).tolist()
    return summed


def sign_flip_exact(differences: Sequence[int]) -> float:
    """Two-sided p if each question's difference may have either sign with equal chance.

    `differences` has one whole number a question, summed over the seeds: pooled replies would
    count a question once a seed. It is Fisher's randomisation test for pairs (1935, The Design of
    Experiments, section 21) with the question as the pair; under one seed it is McNemar's exact
    test. The distribution of the sum is exact: questions of equal size make a binomial, and
    binomials are convolved. 1 where nothing differs.
    """
    sizes = Counter(abs(difference) for difference in differences if difference)
    chances = np.ones(1)
    for size, count in sorted(sizes.items()):
        chances = np.convolve(chances, _steps(size, count))
    # chances[k]: that the differences which point up have sizes that sum to k.
    up = sum(difference for difference in differences if difference > 0)
    down = sum(-difference for difference in differences if difference < 0)
    return min(1.0, 2 * float(chances[: min(up, down) + 1].sum()))


def _steps(size: int, count: int) -> Floats:
    """Chances of size * k, for k heads of `count` fair coins."""
    from scipy.stats import binom

    steps = np.zeros(size * count + 1)
    steps[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
    return steps

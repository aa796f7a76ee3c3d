"""Two models on the same questions: only the questions on which they differ say anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caft.statistics.wilson import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutcome:
    """How often both, one or neither of two models was right."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        """Questions that both models were asked."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the second model minus that of the first."""
        return (self.only_second - self.only_first) / self.n


def count_paired(first: Sequence[bool], second: Sequence[bool]) -> PairedOutcome:
    """Pair two models' outcomes; position i is the same question in both."""
    assert len(first) == len(second), f"{len(first)} outcomes against {len(second)}"
    pairs = [(bool(one), bool(two)) for one, two in zip(first, second, strict=True)]
    return PairedOutcome(
        both=pairs.count((True, True)),
        only_first=pairs.count((True, False)),
        only_second=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test: that a fair coin decided the differing questions.

    Twice the smaller binomial tail, at most 1; 1 when the models never differ.
    """
    differing, fewer = only_first + only_second, min(only_first, only_second)
    assert fewer >= 0, f"counts are {only_first} and {only_second}"
    # Whole numbers to the end: exact for any number of questions, where floats would underflow.
    ways = term = 1
    for k in range(fewer):
        term = term * (differing - k) // (k + 1)
        ways += term
    return min(1.0, 2 * _ratio_to_power_of_two(ways, differing))


def _ratio_to_power_of_two(numerator: int, exponent: int) -> float:
    spare = max(0, numerator.bit_length() - 64)
    return math.ldexp(float(numerator >> spare), spare - exponent)


def paired_difference(
    outcome: PairedOutcome, confidence: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Accuracy of the second minus the first, with percentile bounds of the paired bootstrap.

    Resampling n questions with replacement is one multinomial draw of the three possible
    differences (-1, 0, +1), so thousands of resamples cost nothing. Where the models never
    differ the bounds are 0 and 0: the bootstrap cannot see what it was not shown.
    """
    n = outcome.n
    assert n > 0, "no questions"
    same = outcome.both + outcome.neither
    generator = np.random.default_rng(seed)
    shares = np.array([outcome.only_first, same, outcome.only_second]) / n
    drawn = generator.multinomial(n, shares, resamples)
    differences = (drawn[:, 2] - drawn[:, 0]) / n
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(outcome.difference, float(low), float(high), n)

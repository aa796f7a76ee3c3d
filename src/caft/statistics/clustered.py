"""Two models on the same questions under several seeds: a question is one observation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from caft.statistics.seeds import Floats


def sum_differences(pairs: Iterable[tuple[Sequence[bool], Sequence[bool]]]) -> list[int]:
    """For each question, in how many seeds the second model alone was right, minus the first.

    A pair is both models' outcomes under one seed; position i is the same question in all.
    """
    gaps = [
        [int(right) - int(left) for left, right in zip(first, second, strict=True)]
        for first, second in pairs
    ]
    return [sum(of_question) for of_question in zip(*gaps, strict=True)]


def sign_flip_exact(differences: Sequence[int]) -> float:
    """Two-sided p that every question's difference may as well have had the other sign.

    `differences` has one whole number a question, summed over the seeds: replies to one question
    stand or fall together, and pooling them would count the question once a seed. It is Fisher's
    randomisation test for pairs (1935, The Design of Experiments, section 21) with the question
    as the pair; under one seed the differences are -1, 0 and 1 and it is McNemar's exact test.
    The distribution of the sum is exact: questions of equal size make a binomial, and binomials
    are convolved. 1 where nothing differs.
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

"""Whether an arm is better, by paired differences: yes, no, or not enough data."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from caft.statistics.intervals import Interval

ALPHA = 0.05
"""A p below it is called significant, everywhere."""
WORTHWHILE_GAIN = 0.02
"""A gain below two points of accuracy does not justify routing."""
FEWEST_SEEDS = 3
"""With fewer, nothing is said about whether an arm is better."""
_FEWEST_CLEAR = 2


class Verdict(Enum):
    """Whether the second of two arms is better than the first.

    `mixed` is only for several comparisons: some say yes and some no.
    """

    yes = "yes"
    no = "no"
    mixed = "it depends"
    unclear = "not enough data to tell"


def judge_difference(difference: Interval, p_adjusted: float, seeds: int) -> Verdict:
    """Yes needs a small p and an interval above 0; no needs an interval without a real gain.

    `difference` is over questions and seeds, `p_adjusted` corrected for all comparisons, `seeds`
    the fewer of the two arms'.
    """
    if seeds < FEWEST_SEEDS:
        return Verdict.unclear
    if difference.low > 0 and p_adjusted < ALPHA:
        return Verdict.yes
    return Verdict.no if difference.high < WORTHWHILE_GAIN else Verdict.unclear


def is_clear(difference: Interval, p_adjusted: float, seeds: int) -> bool:
    """Whether two arms differ, either way, by test and by interval.

    Of one seed each nothing is known about other seeds, and the interval is that of the questions
    alone: it leaves out 0 for up to nine in ten pairs of arms that only seeds set apart
    (docs/decisions/0072-calibration.md).
    """
    apart = difference.low > 0 or difference.high < 0
    return apart and p_adjusted < ALPHA and seeds >= _FEWEST_CLEAR


def holm_adjusted(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction (1979), in the order given; compare with alpha as they are.

    The smallest p is multiplied by the number of tests, the next by one fewer, and so on.
    """
    assert all(0 <= p <= 1 for p in p_values), "a p-value is outside 0 to 1"
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for done, index in enumerate(ascending):
        floor = max(floor, min(1.0, p_values[index] * (len(p_values) - done)))
        adjusted[index] = floor
    return tuple(adjusted)

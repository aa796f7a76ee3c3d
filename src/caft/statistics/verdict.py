"""Verdicts: yes, no, not enough data, or undefined; of areas, gains, savings and forgetting."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum

from caft.statistics.intervals import Interval

ALPHA = 0.05
"""A p below it is called significant, everywhere."""
WORTHWHILE_GAIN = 0.02
"""A gain below two points of accuracy does not justify routing."""
MARGIN = 0.02
"""The non-inferiority margin: a saving may cost less than two points of accuracy."""
FEWEST_SEEDS = 3
"""With fewer, nothing is said about whether an arm is better, nor is there an interval of seeds."""
_FEWEST_CLEAR = 2
CHANCE_AREA = 0.5
"""The area under the ROC curve of an estimate that knows nothing."""
_USEFUL_AREA = 0.6
"""An area below it does not justify routing."""
FEWEST_TO_JUDGE = 5
"""Fewer rows of a kind prove nothing: where the positives are the extremes on either side, four are
all at the top by chance in one of sixteen cases, whatever the interval assumes."""


class Verdict(Enum):
    """The answer to a yes-or-no question, in every report; `value` is the word that is shown.

    `undefined` is for what this run or sweep cannot answer whatever its size: nothing to compare
    with, or one class only. More data of the same kind helps with `unclear` alone.
    """

    yes = "yes"
    no = "no"
    unclear = "not enough data"
    undefined = "undefined"


def judge_area(low: float, high: float, fewest: int) -> Verdict:
    """Whether an area is above chance, by its interval; `fewest` counts the rows of the rarer kind.

    No needs an interval without a useful area: a wide one around 0.5 has shown nothing.
    """
    if fewest < FEWEST_TO_JUDGE:
        return Verdict.unclear
    if low > CHANCE_AREA:
        return Verdict.yes
    return Verdict.no if high < _USEFUL_AREA else Verdict.unclear


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


def judge_saving(loss: Interval, seeds: int) -> Verdict:
    """Whether an arm that costs less is no worse than its reference, by more than `MARGIN`.

    `loss` is the reference's accuracy minus the arm's, over questions and seeds. Yes is
    non-inferiority: the interval excludes a loss of `MARGIN` (Piaggio et al., 2012, the CONSORT
    statement's extension). That no loss is shown is not enough. No: the interval excludes 0.
    """
    if seeds < FEWEST_SEEDS:
        return Verdict.unclear
    if loss.high < MARGIN:
        return Verdict.yes
    return Verdict.no if loss.low > 0 else Verdict.unclear


def judge_forgetting(change: Interval, p_adjusted: float) -> Verdict:
    """Whether a model lost what it could do before it was tuned.

    `change` is its accuracy minus the base model's, on questions that tuning has not seen. No is
    non-inferiority, as in `judge_saving`: the interval excludes a loss of `MARGIN`. Yes: the
    interval excludes 0, and so does the test, whose p is corrected for all sets and modes.
    """
    if change.low > -MARGIN:
        return Verdict.no
    return Verdict.yes if change.high < 0 and p_adjusted < ALPHA else Verdict.unclear


def join_verdicts(verdicts: Collection[Verdict]) -> Verdict:
    """Of a claim that must hold against every control: one no refutes it, and a yes needs all."""
    if not verdicts:
        return Verdict.undefined
    for word in (Verdict.no, Verdict.undefined, Verdict.unclear):
        if word in verdicts:
            return word
    return Verdict.yes


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

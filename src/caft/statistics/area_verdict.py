"""Whether an estimate tells positives from negatives: its area against chance, which is 0.5."""

from __future__ import annotations

from caft.statistics.verdict import Verdict

CHANCE_AREA = 0.5
"""The area under the ROC curve of an estimate that knows nothing."""
USEFUL_AREA = 0.6
"""An area below it does not justify routing."""

FEWEST_TO_JUDGE = 5
"""Fewer rows of a kind prove nothing: where the positives are the extremes on either side, four are
all at the top by chance in one of sixteen cases, whatever the interval assumes."""


def judge_area(low: float, high: float, fewest: int) -> Verdict:
    """Whether an area is above chance, by its interval; `fewest` counts the rows of the rarer kind.

    No needs an interval without a useful area: a wide one around 0.5 has shown nothing.
    """
    if fewest < FEWEST_TO_JUDGE:
        return Verdict.unclear
    if low > CHANCE_AREA:
        return Verdict.yes
    return Verdict.no if high < USEFUL_AREA else Verdict.unclear

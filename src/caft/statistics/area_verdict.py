"""Whether an estimate tells positives from negatives: its area against chance, which is 0.5."""

from __future__ import annotations

from caft.statistics.verdict import Verdict

CHANCE_AREA = 0.5
"""The area under the ROC curve of an estimate that knows nothing."""
USEFUL_AREA = 0.6
"""An area below it does not justify routing."""


def judge_area(low: float, high: float) -> Verdict:
    """Whether an area is above chance, by its interval.

    No needs an interval without a useful area: a wide one around 0.5 has shown nothing.
    """
    if low > CHANCE_AREA:
        return Verdict.yes
    return Verdict.no if high < USEFUL_AREA else Verdict.unclear

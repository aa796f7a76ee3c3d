"""What tuning changed on further data sets, in summary.json."""

from __future__ import annotations

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict


class MeasuredPart(TypedDict):
    """A share, or a difference of two, with its interval over `n` questions."""

    value: float
    low: float
    high: float
    n: int


class ChangePart(MeasuredPart):
    """Tuned minus base on the same questions, as a `Comparison`, with Tango's score interval.

    `p_adjusted` is Holm's over all sets and modes.
    """

    only_base: int
    only_tuned: int
    p_value: float
    p_adjusted: float


class ForgettingTestPart(TypedDict):
    """One further set in one mode: accuracy before and after tuning, and whether it was lost.

    `left_out` counts the set's test questions that were trained, and so were not asked. `chance` is
    as in the accuracy part. `grader` decided free answers, with its version; it is empty where our
    rules decided all. `unparsable` counts wrong replies without a readable answer, by model.
    `tuned` and `change` are null where nothing was tuned. Undefined has its `reason`; else it is
    empty.
    """

    dataset: str
    mode: str
    left_out: int
    chance: float | None
    grader: str
    base: MeasuredPart
    tuned: MeasuredPart | None
    change: ChangePart | None
    unparsable: dict[str, int]
    verdict: str
    reason: str


class ForgettingPart(TypedDict):
    """Whether tuning made the model forget: yes, no, not enough data, or undefined.

    Yes: a clear loss in any of `tests`. No: in every one that is defined, a loss of `margin` or
    more is ruled out (non-inferiority).
    """

    verdict: str
    margin: float
    tests: list[ForgettingTestPart]

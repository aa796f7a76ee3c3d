"""The smaller parts of summary.json: of scores, replies, own rationales, grading, forgetting."""

from __future__ import annotations

from typing import NotRequired

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict


class Share(TypedDict):
    """A share, or a difference of two, with its interval over `n` observations."""

    value: float
    low: float
    high: float
    n: int


class Calibration(TypedDict):
    """How well the probabilities of the options, among themselves, are calibrated.

    `ece` is over the likeliest option in 10 bins. `brier` is Brier's score over all options, from 0
    to 2 and lower is better; `brier_of_guessing` is what equal probabilities would score.
    """

    ece: float
    brier: float
    brier_of_guessing: float
    confidence: float
    accuracy: float
    n: int


class FallbackPart(TypedDict):
    """The rows of the prompt that lets the model decline; none is left out."""

    wording: str
    n: int
    declined: int
    correct: int
    invalid: int


class ChainPart(TypedDict):
    """The base model's own chains of thought, greedy or drawn, and the tokens they took."""

    n: int
    correct: int
    unparsable: int
    tokens: int


class FittedCutPart(TypedDict):
    """Where rationales begin in routed mode, in the estimator's unit; null: nowhere.

    `share` is that of the test questions that get one. `by_tuned`: the estimate is the tuned
    model's own, else the base model's.
    """

    estimator: str
    value: float | None
    share: float
    by_tuned: NotRequired[bool]


class UnreadPart(TypedDict):
    """How many replies have no readable answer, by reason.

    `outside` are those with an answer in the right form that is none of the allowed ones; what they
    said is in `said`, commonest first. `cut` were ended by the limit of tokens, and `no_marker`
    ended by themselves without an answer.
    """

    no_marker: int
    outside: int
    cut: int
    said: dict[str, int]


class OwnRationalesPart(TypedDict):
    """The student's own rationales beside what chance would give.

    Of `tries` drawn chains a question, `needed` must be right for one to be trained.

    `p` is the probability that chance alone keeps as many questions as were kept, or more
    (binomial).
    """

    questions: int
    kept: int
    kept_by_chance: float
    p: float
    right_tries: int
    right_tries_by_chance: float
    tries: int
    needed: int


class GradingPart(TypedDict):
    """Who decided whether free answers are right.

    `grader` is rules, math_verify or module:function, `version` that of a library or file.

    It decided the answers to `questions` free-text test questions. Of the `replies` to them our own
    rules would have graded `differ` otherwise.
    """

    grader: str
    version: str
    questions: int
    replies: int
    differ: int


class ChangePart(Share):
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
    base: Share
    tuned: Share | None
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

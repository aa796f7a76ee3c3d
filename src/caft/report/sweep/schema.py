"""A sweep's summary.json, schema 1: the keys that other programs read.

`kind` sets it apart from a run's. Shares are 0 to 1, money is in USD; what does not exist is null.
`accuracy` of an arm is the mean over its seeds in the mode chosen on validation questions, with the
bootstrap's bounds over questions and seeds (Wilson's for one seed); `over_seeds` has Student's
bounds instead, and is null for fewer than three seeds. Verdicts are yes, no, not enough data, or
undefined.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from caft.report.parts import Share
from caft.report.schema import Area


class JobPart(TypedDict):
    """One job: its number, folder, state, settings that set it apart, and what came out."""

    number: int
    folder: str
    state: str
    error: str
    settings: dict[str, str]
    seed: int | None
    arm: str | None
    mode: str | None
    accuracy: Share | None
    roc_auc: Area | None
    cost: dict[str, float] | None
    seconds: float | None


class ArmPart(TypedDict):
    """Jobs that differ in their seed only. `by_mode`: mean accuracy of the tuned model.

    `trained` has the targets of every trained class, and `by_class` the mean accuracy on each class
    of test questions, in the mode that counts.
    """

    name: str
    settings: dict[str, str]
    strategy: str
    estimator: str | None
    method: str
    seeds: list[int]
    modes: list[str]
    accuracy: Share
    over_seeds: Share | None
    by_mode: dict[str, float]
    tokens_a_question: float
    thresholds: list[float]
    trained: dict[str, str]
    by_class: dict[str, float]
    cost: dict[str, float]


class ComparisonPart(Share):
    """Second minus first arm, on the same test questions.

    `value` is the difference of the mean accuracies, with the bootstrap's bounds over questions
    and seeds. `mode` is the one that both are evaluated in, null if each is in its own.
    `only_first` and `only_second` count the replies that one of the two alone got right, over the
    paired `seeds`. `p_value` is the exact test that flips the sign of each question's difference,
    summed over those seeds (McNemar's for one seed), `p_adjusted` Holm's over all comparisons made
    together. The test covers other questions put to these very models, the interval other seeds
    too, so that `clear` needs both. `detectable` is the smallest difference that both would detect,
    corrected for all comparisons as Holm's first step is: over questions and, of several, seeds.
    """

    first: str
    second: str
    mode: str | None
    seeds: int
    only_first: int
    only_second: int
    p_value: float
    p_adjusted: float
    clear: bool
    detectable: float | None


class RoutingTestPart(ComparisonPart):
    """A routed arm (second) against its random control at an equal budget.

    The bounds of all tests hold together, and `detectable` is over questions, seeds and all tests.
    `budget` is the routed arm's, in teacher tokens (in the student's where nothing was bought),
    `accuracy` its own in `mode`, `rank` its place among the control and all that it was tested
    with in that mode.
    """

    strategy: str
    estimator: str | None
    equal_in: list[str]
    budget: float
    accuracy: float
    rank: int
    verdict: str


class RoutingAnswerPart(TypedDict):
    """Whether routing by one estimate beats its random controls, as a word and a sentence.

    After the `estimator` stands the split's strategy, if it is no plain cut ("answer_entropy,
    sampled_0.3"). The word is yes (against every control), no (against one of them), not enough
    data, or undefined: there is no control.
    """

    estimator: str
    verdict: str
    sentence: str


class AllocationPart(TypedDict):
    """How a teacher's budget should be spent, as one sentence.

    Yes: `arm` beats random routing at every equal budget. No: nothing does, and a gain of two
    points is ruled out. Undefined: there is no control.
    """

    verdict: str
    arm: str | None
    sentence: str


class RoutingPart(TypedDict):
    """The answer for answer entropy, those for `others`, and the `tests` of all estimates."""

    verdict: str
    sentence: str
    others: list[RoutingAnswerPart]
    tests: list[RoutingTestPart]


class SavingPart(TypedDict):
    """One way of counting: amount and share saved against the reference, by arm."""

    name: str
    amounts: dict[str, float]
    saved: dict[str, float | None]


class LossPart(Share):
    """The reference's accuracy minus that of an arm that costs less; all bounds hold together.

    The verdict is yes if a loss of the margin or more is ruled out.
    """

    arm: str
    mode: str | None
    seeds: int
    verdict: str


class SavingsPart(TypedDict):
    """Every way of counting, and which cheaper arms keep up: non-inferiority with `margin`.

    `references` has for each arm the one that it is set against, which has the same model and test
    questions; `reference` is the one of them that is taught most.
    """

    reference: str
    references: NotRequired[dict[str, str]]
    margin: float
    losses: list[LossPart]
    counts: dict[str, SavingPart]


class ArmForgettingPart(Share):
    """Tuned minus base of a setting on a further set in one mode, over questions and seeds.

    `base` and `tuned` are mean accuracies. `p_value` is the test of a comparison, `p_adjusted`
    Holm's over all of these. The verdict says whether the setting makes the model forget.
    """

    arm: str
    dataset: str
    mode: str
    seeds: int
    base: float
    tuned: float
    p_value: float
    p_adjusted: float
    verdict: str


class BasePart(TypedDict):
    """The model before tuning on the same test questions, in the mode chosen on validation ones."""

    name: str
    mode: str
    seeds: list[int]
    accuracy: Share
    by_mode: dict[str, float]
    tokens_a_question: float


class OriginPart(TypedDict):
    """What the finished jobs ran on; a list where they differ."""

    models: list[str]
    datasets: list[str]
    test_questions: list[int]
    commits: list[str]
    devices: list[str]


class AnswerPart(TypedDict):
    """One plain sentence a question."""

    asked: str
    answer: str


class SweepSummary(TypedDict):
    """The whole of a sweep's summary.json.

    `superseded` counts jobs that are in none of its lists: their overrides, with the config as it
    is by now, are other jobs.
    """

    schema: Literal[1]
    kind: Literal["sweep"]
    name: str
    question: str
    written: str
    confidence: float
    superseded: int
    counts: dict[str, int]
    origin: OriginPart
    warnings: list[str]
    jobs: list[JobPart]
    bases: list[BasePart]
    arms: list[ArmPart]
    comparisons: list[ComparisonPart]
    routing: RoutingPart
    allocation: AllocationPart
    forgetting: NotRequired[list[ArmForgettingPart]]
    savings: SavingsPart | None
    answers: list[AnswerPart]

"""summary.json, schema 1: the keys that other programs read.

Keys here do not change without a schema bump; more keys may be added, and readers ignore unknown
keys. A part that a run did not reach (until=score) is null, never left out. Shares are 0 to 1,
entropies are in nats, durations in seconds, money in USD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict

from caft.report.engine_part import EnginePart
from caft.report.parts import (
    Calibration,
    ChainPart,
    FallbackPart,
    FittedCutPart,
    ForgettingPart,
    GradingPart,
    OwnRationalesPart,
    Share,
    UnreadPart,
)

if TYPE_CHECKING:
    from caft.statistics import Interval

ModelName = Literal["base", "tuned"]
ModeName = Literal["answer", "rationale", "routed"]
MODELS: tuple[ModelName, ...] = ("base", "tuned")
MODES: tuple[ModeName, ...] = ("answer", "rationale", "routed")


def drawn_at_random(strategy: str) -> bool:
    """Whether a split of this strategy drew its classes at random: the control of routing."""
    return strategy.startswith("random")


class RunPart(TypedDict):
    """Who ran what, when and where. Times are ISO 8601 with an offset.

    `seconds` are those from the first stage's checks to this summary.
    """

    name: str
    seed: int
    overrides: list[str]
    git_commit: str | None
    started: str
    finished: str
    versions: dict[str, str]
    device: str
    seconds: NotRequired[float]


class ModelPart(TypedDict):
    """The student.

    `parameters` is null if the run never needed the model itself (published scores),
    `trainable_parameters` where nothing was tuned. `template_date` is the date that every stage
    gives the chat template, `template_bridge` the text between the template's ending and a reply,
    such as what closes a thinking span; null if there is none.
    """

    id: str
    revision: str | None
    parameters: int | None
    trainable_parameters: int | None
    template_date: NotRequired[str | None]
    template_bridge: NotRequired[str | None]


class Counts(TypedDict):
    """Questions of each split."""

    train: int
    validation: int
    test: int


class DatasetPart(TypedDict):
    """Which questions. `removed`: rows left out, by reason.

    `fingerprint` covers all questions and their split, `test_fingerprint` the test questions.
    """

    name: str
    fingerprint: str
    test_fingerprint: NotRequired[str]
    counts: Counts
    removed: NotRequired[dict[str, int]]


class Area(TypedDict):
    """An area under the ROC curve; all three numbers are null when there is none, with `reason`.

    A positive is a question that the base model answered wrong. Bounds are the percentile
    bootstrap's over questions, or DeLong's where every resample has the same area. `circular` is
    there if the estimate uses the gold answer: its area proves nothing.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    incorrect: int
    reason: NotRequired[str]
    circular: NotRequired[bool]


class AreaDifference(Share):
    """Area of `second` minus area of `first` over the `n` questions that have both estimates.

    Bounds are the paired bootstrap's.
    """

    first: str
    second: str


class Uncompared(TypedDict):
    """Two estimates that have an area each, and none over the `n` questions that have both."""

    first: str
    second: str
    n: int
    reason: str


class ScorePart(TypedDict):
    """The base model's accuracy on training questions, and how well estimates predict it.

    `roc_auc` is by estimator; that of an estimate that knows nothing is 0.5. `within_subjects` is
    that of the split's estimator over pairs of questions of one subject; null without subjects.
    `option_mass` is the mean probability on the allowed answers (null for free text);
    `valid_answer_rate` the share of questions whose greedy token is an allowed answer. `source` is
    model or published; published answers are those of the publisher's model. `confidence` is that
    of all intervals.
    """

    estimator: str
    roc_auc: dict[str, Area]
    option_mass: float | None
    valid_answer_rate: float | None
    source: NotRequired[str]
    confidence: NotRequired[float]
    differences: NotRequired[list[AreaDifference]]
    not_compared: NotRequired[list[Uncompared]]
    by_subject: NotRequired[dict[str, Area]]
    within_subjects: NotRequired[Area | None]
    calibration: NotRequired[Calibration | None]
    accuracy: NotRequired[Share]
    accuracy_by_class: NotRequired[dict[str, Share]]
    fallback: NotRequired[FallbackPart | None]
    follow_up_mass: NotRequired[dict[str, float]]
    chain: NotRequired[ChainPart | None]
    samples: NotRequired[ChainPart | None]


class SplitPart(TypedDict):
    """How scores became classes: cut points in the estimator's unit, training rows a class.

    `estimator` is what was cut, null if classes were drawn at random. `held_out_by` names the
    estimator that placed validation and test questions where the split's own does not exist for
    them; `unreadable` counts rows without a readable estimate, which count as hardest.
    """

    strategy: str
    estimator: NotRequired[str | None]
    thresholds: list[float]
    counts: dict[str, int]
    held_out_by: NotRequired[str | None]
    unreadable: NotRequired[int]


class RescoredPart(TypedDict):
    """The sizes of the classes by the student as tuned so far, and how many questions moved.

    `dial` is the override that made them anew.
    """

    counts: dict[str, int]
    moved: int
    dial: NotRequired[str]


class StagePart(TypedDict):
    """One tuning stage of the method. `examples` is null until they are counted.

    `targets` has what each class was trained on; several are told with their shares of its loss.
    `draw` has the questions that each epoch drew anew and `weights` those in the loss, both by
    class; a class without them had all of its rows, at the weight 1.
    """

    targets: dict[str, str]
    epochs: int
    examples: int | None
    draw: NotRequired[dict[str, int]]
    weights: NotRequired[dict[str, float]]
    rescored: NotRequired[RescoredPart]


class MethodPart(TypedDict):
    """The stages in order; `loss` if it is not `ce`, `untaught` if the teacher had no solution."""

    name: str
    stages: list[StagePart]
    loss: NotRequired[str]
    untaught: NotRequired[bool]


class TuningPart(TypedDict):
    """How one tuning stage did on validation questions, asked as the stage trains their class.

    `best_epoch` is the first of the best ones; `selected` is the epoch whose weights were kept.
    All are null if nothing was measured. `dropped` counts the rows that were longer than the
    tokens allowed and left out, `dropped_ids` are their questions.
    """

    epochs: int
    by_epoch: list[float]
    best_epoch: int | None
    best: float | None
    final: float | None
    questions: int
    selected: int
    dropped: NotRequired[int]
    dropped_ids: NotRequired[list[str]]


class Accuracy(Share):
    """Accuracy on the test questions in one mode. Unparsable replies count as wrong.

    `unread` is there if any reply was unparsable and the reasons are known.

    `thinking_tokens`, which are among the generated ones, are those of thinking spans; the key is
    there if any were written. `obeyed` is the share of replies that thought, or did not, as the
    model was asked to; the key is there if it was asked for one or the other.
    """

    unparsable: int
    unread: NotRequired[UnreadPart]
    generated_tokens: int
    thinking_tokens: NotRequired[int]
    obeyed: NotRequired[Share]
    by_complexity: dict[str, Share]
    by_subject: dict[str, Share]


class ByMode(TypedDict):
    """A mode that was not evaluated is null."""

    answer: Accuracy | None
    rationale: Accuracy | None
    routed: Accuracy | None


class BestMode(TypedDict):
    """The mode that was best on the validation questions."""

    base: str | None
    tuned: str | None


class Comparison(Share):
    """Tuned minus base on the same test questions.

    The bounds are the paired bootstrap's, and hold the score test's where few questions differ one
    way; `p_value` is McNemar's exact one; `only_base` and `only_tuned` count the questions that one
    of the two alone got right.
    """

    only_base: int
    only_tuned: int
    p_value: float


class ClassComparison(Share):
    """Tuned minus base on the test questions of one class, both models in the same mode.

    Bounds and `p_value` as in Comparison; `p_adjusted` is Holm's over all classes and modes.
    """

    complexity: str
    mode: str
    p_value: float
    p_adjusted: float


class AccuracyPart(TypedDict):
    """`tuned` is null for a method without stages. `confidence` is that of all intervals.

    `comparison` has each model in its best mode, `same_mode` both in one mode, by mode. `chance` is
    the share of test questions that one of the allowed answers drawn at random gets right, null
    for free text. `validation` has the share of right answers on validation questions, by model and
    mode. `routed_at` has the cut of routed mode that validation questions fitted, by model.
    `thinking` is `evaluation.thinking`.
    """

    base: ByMode
    tuned: ByMode | None
    best_mode: NotRequired[BestMode]
    comparison: NotRequired[Comparison | None]
    same_mode: NotRequired[dict[str, Comparison]]
    chance: NotRequired[float | None]
    class_comparisons: NotRequired[list[ClassComparison]]
    confidence: NotRequired[float]
    validation: NotRequired[dict[str, dict[str, float]]]
    routed_at: NotRequired[dict[str, FittedCutPart]]
    thinking: NotRequired[bool | None]


class CostPart(TypedDict):
    """Trained tokens count every epoch, unique ones count each text once.

    `teacher_batch_calls` and `teacher_batch_usd` are the part of the teacher's calls that came in a
    provider's batch; the others were live.
    `unsure_usd` is the most that calls to teacher or judge may have been charged that brought no
    reply, beside what is counted here.
    `teacher_refused` counts the replies that were not trained on, by reason, commonest first.
    `own_rationale_tries` and `own_rationale_tokens` are the student's drawn chains of thought that
    its own rationales were taken from, whether drawn by this run or an earlier one.
    `train_flops` is tuning alone: neither scoring, also before a later stage, nor drawn chains, nor
    evaluation.
    """

    teacher_calls: int
    teacher_prompt_tokens: int
    teacher_completion_tokens: int
    teacher_usd: float
    teacher_batch_calls: NotRequired[int]
    teacher_batch_usd: NotRequired[float]
    teacher_refused: NotRequired[dict[str, int]]
    judge_calls: NotRequired[int]
    judge_prompt_tokens: NotRequired[int]
    judge_completion_tokens: NotRequired[int]
    judge_usd: NotRequired[float]
    unsure_usd: NotRequired[float]
    own_rationale_tries: NotRequired[int]
    own_rationale_tokens: NotRequired[int]
    own_rationales: NotRequired[OwnRationalesPart]
    unique_rationale_tokens: int
    trained_rationale_tokens: NotRequired[int]
    trained_response_tokens: int
    trained_total_tokens: int
    train_flops: float
    evaluation_generated_tokens: int


class StageRecordPart(TypedDict):
    """One stage of the run. `cached`: taken from the store; memory null if it is unknown.

    `kind` is the kind of its result (earlier versions wrote none), `name` is for display. `share`
    is that of the run's time, null for what was taken. `tokens_per_second` counts the tokens that
    were trained; else written; else read; null if there are none.
    """

    kind: NotRequired[str]
    name: str
    fingerprint: str
    cached: bool
    seconds: float
    peak_memory_bytes: int | None
    share: NotRequired[float | None]
    tokens_read: NotRequired[int]
    tokens_trained: NotRequired[int]
    tokens_written: NotRequired[int]
    tokens_per_second: NotRequired[float | None]


class Summary(TypedDict):
    """The whole of summary.json; a part that was not reached is null.

    `grading` is there for free-text answers. `warnings` are the report's: what a reader needs to
    know before trusting the numbers.
    """

    schema: Literal[1]
    run: RunPart
    model: ModelPart
    dataset: DatasetPart
    score: ScorePart | None
    split: SplitPart | None
    method: MethodPart
    tuning: NotRequired[list[TuningPart]]
    engine: NotRequired[EnginePart]
    grading: NotRequired[GradingPart]
    accuracy: AccuracyPart | None
    forgetting: NotRequired[ForgettingPart]
    cost: CostPart
    stages: list[StageRecordPart]
    warnings: NotRequired[list[str]]


def as_share(interval: Interval) -> Share:
    """The interval as summary.json holds it."""
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}

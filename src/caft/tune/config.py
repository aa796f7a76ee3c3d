"""The settings of methods (stages and targets) and of tuning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, Any

from caft.dials import (
    MOST,
    POSITIVE,
    Count,
    CountOrNone,
    NotNegative,
    Positive,
    Range,
    Seconds,
    Text,
    check_dials,
    shown,
)
from caft.errors import UserError, did_you_mean
from caft.records import Target


class Rescore(Enum):
    """When a stage makes its classes anew: never, once before it, or before each of its epochs."""

    never = "never"
    stage = "stage"
    epoch = "epoch"


@dataclass(frozen=True, slots=True)
class Part:
    """What a stage is of the one in the config: `epoch` of its `epochs`, both of the whole if one.

    `stage` is its number there. All count from 0.
    """

    stage: int = 0
    epoch: int = 0
    epochs: int = 1

    def factor(self, schedule: Schedule, step: int, steps: int, warmup_steps: int) -> float:
        """`Schedule.factor` over all parts, as if each had the `steps` of this one."""
        return schedule.factor(self.epoch * steps + step, self.epochs * steps, warmup_steps)


WHOLE = Part()


@dataclass(kw_only=True, slots=True)
class StageConfig:
    """One tuning stage: which target each class gets, and for how many epochs.

    A class that is not named is not in the stage. Targets are answer, rationale, short_rationale,
    own_rationale (a chain of thought of the base student's own that is right) and thinking (a
    teacher's reasoning as the student's thinking span, and its reply behind it).

    A class may have several: `hard: {rationale: 0.7, answer: 0.3}`, or a list of equal ones. Every
    epoch then trains each of its questions once with each of them, and the numbers are their shares
    of the class's loss, whatever their lengths (see `caft.tune.examples.weigh_rows`). It is the
    loss of "Distilling step-by-step" (Hsieh et al., arXiv 2305.02301, section 3.2): no question is
    left to chance, and neither skill is lost to the other. A question that lacks one of its
    class's texts is left out.

    `rescore: stage` (or true) makes the classes anew just before the stage, from the estimates of
    the student as tuned so far; they hold until the next stage that rescores. Its teacher is asked
    only then (`until=distill` does not get there), for questions that have no reply yet. Validation
    questions move with them; the report and routing keep the base model's classes. `rescore: epoch`
    makes them anew before every epoch, which is a stage of its own from there on (see `Part`): the
    learning rate's schedule runs over all of them, and AdamW's moments begin anew.

    `draw` has the number of a class's questions that every epoch draws anew, by class; a class
    without one has all of its rows in every epoch. `weights` are those of the classes' tokens in
    the loss (see `caft.tune.batches.Step`), 1 where none is given.
    """

    targets: dict[str, Any] = field(default_factory=dict)
    epochs: Count = 1
    draw: dict[str, Count] = field(default_factory=dict)
    weights: dict[str, Positive] = field(default_factory=dict)
    rescore: Any = Rescore.never

    def __post_init__(self) -> None:
        if not self.targets:
            raise UserError(
                "a method's stage has no targets; name at least one class, such as {easy: answer}"
            )

    @property
    def rescores(self) -> bool:
        """Whether its classes are made anew before it."""
        return self.rescore is not Rescore.never

    @property
    def shares(self) -> dict[str, dict[Target, float]]:
        """The targets of every class, each with its share of the class's loss: they add up to 1."""
        return {name: _share(given) for name, given in self.targets.items()}


def describe_targets(shares: Mapping[Target, float]) -> str:
    """Such as "answer", or "rationale 0.7 + answer 0.3"."""
    if len(shares) == 1:
        return next(iter(shares)).name
    return " + ".join(f"{target.name} {share:.3g}" for target, share in shares.items())


def _share(given: Target | Mapping[Target, float]) -> dict[Target, float]:
    weights = {given: 1.0} if isinstance(given, Target) else given
    whole = sum(weights.values())
    return {target: weight / whole for target, weight in weights.items()}


def _read_rescore(place: str, given: object) -> Rescore:
    words = {"True": Rescore.stage, "False": Rescore.never} | {each.name: each for each in Rescore}
    word = given.name if isinstance(given, Rescore) else str(given)
    if word in words:
        return words[word]
    said = "null" if given is None else shown(given) or repr(given)
    raise UserError(
        f"{place} is {said}; give false (never), true (stage: before the stage) or epoch "
        f"(before each of its epochs){did_you_mean(word, list(words))}"
    )


def read_targets(place: str, given: object) -> Target | dict[Target, float]:
    """One target, or several with their weights. UserError, naming `place`, for anything else."""
    if isinstance(given, Mapping) and given:
        return {_read_target(place, name): _read_weight(place, name, given[name]) for name in given}
    if isinstance(given, Sequence) and not isinstance(given, str) and given:
        targets = [_read_target(place, name) for name in given]
        for target in targets:
            if targets.count(target) > 1:
                raise UserError(f"{place} names {target.name} more than once; name it once")
        return dict.fromkeys(targets, 1.0)
    return _read_target(place, given)


def _read_target(place: str, given: object) -> Target:
    if isinstance(given, Target):
        return given
    names = [target.name for target in Target]
    if given in names:
        return Target[str(given)]
    raise UserError(
        f"{place} is {shown(given)}; give one of {', '.join(names)}, or several with their shares "
        f"of the loss, as in {{rationale: 0.7, answer: 0.3}}{did_you_mean(str(given), names)}"
    )


def _read_weight(place: str, name: object, given: object) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool) and given in POSITIVE:
        return float(given)
    name = name.name if isinstance(name, Target) else name
    raise UserError(f"{place}.{name} is {shown(given)}; give {POSITIVE}")


@dataclass(kw_only=True, slots=True)
class MethodConfig:
    """A method is data: tuning stages in order. No stage at all is the untuned base model.

    `epochs` and `draws` are numbers by name that its stages refer to, so that an experiment can set
    them for any method without changing its targets.
    """

    name: Text
    epochs: dict[str, Count] = field(default_factory=dict)
    draws: dict[str, Count] = field(default_factory=dict)
    stages: list[StageConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_dials(self, "method")
        rescored = False
        for number, stage in enumerate(self.stages):
            place = f"method.stages.{number}.targets"
            stage.targets = {
                name: read_targets(f"{place}.{name}", given)
                for name, given in stage.targets.items()
            }
            stage.rescore = _read_rescore(f"method.stages.{number}.rescore", stage.rescore)
            rescored = rescored or stage.rescores
            if rescored:
                _refuse_rescored(number, stage)
            _refuse_untrained(f"method.stages.{number}.draw", stage.draw, stage.targets)
            _refuse_untrained(f"method.stages.{number}.weights", stage.weights, stage.targets)
        self.stages = [
            part for number, stage in enumerate(self.stages) for part in _by_epoch(number, stage)
        ]

    def part(self, number: int) -> Part:
        """Which part of a config's stage `number` is; all but the first are marked `epoch`."""
        firsts = [n for n, stage in enumerate(self.stages) if stage.rescore is not Rescore.epoch]
        ends = [*firsts[1:], len(self.stages)]
        stage = next(n for n, end in enumerate(ends) if number < end)
        return Part(stage, number - firsts[stage], ends[stage] - firsts[stage])


def _by_epoch(number: int, stage: StageConfig) -> list[StageConfig]:
    """The stage itself, or one for each of its epochs; a method's first has the base's classes."""
    if stage.rescore is not Rescore.epoch:
        return [stage]
    first = replace(stage, epochs=1, rescore=Rescore.stage if number else Rescore.never)
    return [first, *(replace(stage, epochs=1) for _ in range(stage.epochs - 1))]


def _refuse_rescored(number: int, stage: StageConfig) -> None:
    """UserError for what a stage cannot have whose classes are the tuned student's."""
    if number == 0 and (stage.rescore is Rescore.stage or stage.epochs == 1):
        raise UserError(
            f"method.stages.0.rescore={stage.rescore.name}, but nothing is tuned before the first "
            "stage, whose classes are the base model's; leave it out there, or give epoch and "
            "several epochs"
        )
    for name, shares in stage.shares.items():
        if Target.own_rationale in shares:
            raise UserError(
                f"method.stages.{number} trains the class {name} on own_rationale, whose chains "
                "are drawn before the first stage, with classes that are known only later "
                "(rescore); give it another target, or leave rescore out"
            )


def _refuse_untrained(place: str, named: Iterable[str], trained: Iterable[str]) -> None:
    for name in set(named) - set(trained):
        raise UserError(
            f"{place} names the class {name!r}, which the stage does not train; it trains "
            f"{', '.join(trained)}"
        )


class Adapter(Enum):
    """What is trained: low-rank adapters, adapters on a base in 4 bits (CUDA), or every weight."""

    lora = "lora"
    qlora = "qlora"
    full = "full"


class Select(Enum):
    """Which epoch's weights a stage keeps: the last, or the best on validation questions."""

    final = "final"
    best = "best"


class Schedule(Enum):
    """The learning rate over the steps of one stage, after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"

    def factor(self, step: int, steps: int, warmup_steps: int) -> float:
        """Factor of `tuning.learning_rate` at `step` of `steps`: linear warm-up, then this.

        Linear and cosine fall to 0 at the end of the stage.
        """
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        if self is Schedule.cosine:
            return 0.5 * (1.0 + math.cos(math.pi * done))
        return 1.0 - done if self is Schedule.linear else 1.0


class Loss(Enum):
    """How trained tokens count in the gradient: all alike, or weighed by what the model knows.

    `ce`: cross-entropy. `dft`: dynamic fine-tuning (arXiv 2508.05629), by the token's probability.
    `eaft`: entropy-adaptive fine-tuning (arXiv 2601.02151), by the normalised entropy of its place.
    """

    ce = "ce"
    dft = "dft"
    eaft = "eaft"


class AnswerTarget(Enum):
    """`bare`: the answer at the very position that was scored. `bracketed`: the paper's [[id]]."""

    bare = "bare"
    bracketed = "bracketed"


class Overlong(Enum):
    """What happens to rows longer than `max_length`; nothing is ever cut."""

    refuse = "refuse"
    drop = "drop"


@dataclass(kw_only=True, slots=True)
class LoraConfig:
    """Low-rank adapters on all linear layers unless `modules` names some."""

    r: Annotated[int, Range(1, 65_536)] = 16
    alpha: Count = 32
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    modules: list[str] = field(default_factory=list)
    use_dora: bool = False
    use_rslora: bool = False

    def __post_init__(self) -> None:
        check_dials(self, "tuning.lora")


@dataclass(kw_only=True, slots=True)
class TuningConfig:
    """AdamW. `batch_size` is rows an optimizer step; `batch_tokens` bounds one forward pass.

    None for `batch_tokens` is as many as keep the device busy: 2,048 on a CPU, 4,096 elsewhere. The
    loss of a step is the mean over its trained tokens, however it was divided into passes; only
    rounding differs (docs/decisions/0033-what-rounding-moves.md). `loss` weighs these tokens in the
    gradient; curves show their cross-entropy whatever it is. `max_length` is in tokens (None:
    the model's context). After every epoch the validation questions are answered; if a stage trains
    rationales, at most `validation_replies` of them, since a written reply costs as many passes as
    it has tokens. `patience` epochs without a better accuracy end a stage. Two checkpoints are at
    least `checkpoint_seconds` apart; an interrupted stage resumes from the last one. `merge` also
    writes a whole model without adapter; the first stage starts from the adapter in the folder
    `start_from`.
    """

    adapter: Adapter = Adapter.lora
    lora: LoraConfig = field(default_factory=LoraConfig)
    loss: Loss = Loss.ce
    learning_rate: Positive = 5e-4
    schedule: Schedule = Schedule.linear
    warmup_steps: CountOrNone = 0
    weight_decay: NotNegative = 0.0
    clip: Positive = 1.0
    batch_size: Count = 16
    batch_tokens: Count | None = None
    max_length: Annotated[int, Range(2, MOST)] | None = None
    overlong: Overlong = Overlong.refuse
    answer_target: AnswerTarget = AnswerTarget.bare
    gradient_checkpointing: bool = False
    validate: bool = True
    validation_replies: CountOrNone = 24
    select: Select = Select.final
    patience: Count | None = None
    checkpoint_seconds: Seconds = 60.0
    merge: bool = False
    start_from: Text | None = None

    def __post_init__(self) -> None:
        check_dials(self, "tuning")
        if not self.validate and (self.patience or self.select is Select.best):
            raise UserError(
                "tuning.patience and tuning.select=best use validation accuracy; "
                "set tuning.validate=true, or leave them out"
            )
        if self.start_from is not None and self.adapter is Adapter.full:
            raise UserError(
                "tuning.start_from is an adapter, and tuning=full trains none; use tuning=lora"
            )

    def tokens_a_pass(self, device: str) -> int:
        """`batch_tokens`, or what keeps `device` busy."""
        return self.batch_tokens or (2048 if device == "cpu" else 4096)

    def runs_again(self, dtype: str, *, divided: bool) -> bool:
        """Whether layers run again in the backward pass.

        Autocast would keep a whole bfloat16 copy of `divided` weights to it.
        """
        copied = divided and self.adapter is Adapter.full and dtype == "bfloat16"
        return self.gradient_checkpointing or copied

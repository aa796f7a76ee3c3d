"""What is trained on what, and how: the method's table and the tuner's dials."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from caft.errors import UserError
from caft.records import Target


@dataclass(kw_only=True, slots=True)
class StageConfig:
    """One tuning stage: which target each class gets, and for how many epochs.

    A class that is not named is not in the stage.
    """

    targets: dict[str, Target] = field(default_factory=dict)
    epochs: int = 1

    def __post_init__(self) -> None:
        if not self.targets:
            raise UserError(
                "a method's stage has no targets; name at least one class, such as {easy: answer}"
            )
        if self.epochs < 1:
            raise UserError(f"a method's stage has epochs={self.epochs}; give 1 or more")


@dataclass(kw_only=True, slots=True)
class MethodConfig:
    """A method is data: tuning stages in order. No stage at all is the untuned base model.

    `epochs` are by name what its stages refer to: an experiment can set them there for whichever
    method is chosen, and leaves the targets to that method.
    """

    name: str
    epochs: dict[str, int] = field(default_factory=dict)
    stages: list[StageConfig] = field(default_factory=list)


class Adapter(Enum):
    """What is trained: low-rank adapters, the same on a base in 4 bits (CUDA), or every weight."""

    lora = "lora"
    qlora = "qlora"
    full = "full"


class Select(Enum):
    """Which epoch's weights a stage hands over: the last, or the best on validation questions."""

    final = "final"
    best = "best"


class Schedule(Enum):
    """The learning rate over the steps of one stage, after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


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

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    modules: list[str] = field(default_factory=list)
    use_dora: bool = False
    use_rslora: bool = False

    def __post_init__(self) -> None:
        if self.r < 1:
            raise UserError(f"tuning.lora.r is {self.r}; give 1 or more")


@dataclass(kw_only=True, slots=True)
class TuningConfig:
    """AdamW. `batch_size` is rows an optimizer step; `batch_tokens` bounds one forward pass.

    None of the latter is as many as keep the device busy: 2,048 on a CPU, 4,096 elsewhere. The loss
    of a step is the mean over its trained tokens, however it was cut into passes; what that leaves
    is rounding (docs/decisions/0033-what-rounding-moves.md). `max_length` is
    in tokens (None: the model's context). After every epoch the validation questions are
    answered; where a stage trains rationales, `validation_replies` of them at most, since a
    written reply costs as many passes as it has tokens. `patience` epochs without a better
    accuracy end a stage. `checkpoint_seconds` lie between two checkpoints at least; an
    interrupted stage goes on from the last one. `merge` also writes a whole model without
    adapter; `start_from` is an adapter's folder that the first stage goes on from.
    """

    adapter: Adapter = Adapter.lora
    lora: LoraConfig = field(default_factory=LoraConfig)
    learning_rate: float = 1e-3
    schedule: Schedule = Schedule.constant
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    batch_size: int = 16
    batch_tokens: int | None = None
    max_length: int | None = None
    overlong: Overlong = Overlong.refuse
    answer_target: AnswerTarget = AnswerTarget.bare
    gradient_checkpointing: bool = False
    validate: bool = True
    validation_replies: int = 24
    select: Select = Select.final
    patience: int | None = None
    checkpoint_seconds: float = 60.0
    merge: bool = False
    start_from: str | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"tuning.batch_size is {self.batch_size}; give 1 or more")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UserError(f"tuning.batch_tokens is {self.batch_tokens}; give 1 or more, or null")
        for name in ("warmup_steps", "weight_decay", "validation_replies", "checkpoint_seconds"):
            if getattr(self, name) < 0:
                raise UserError(f"tuning.{name} is {getattr(self, name)}; give 0 or more")
        if self.max_length is not None and self.max_length < 2:
            raise UserError(f"tuning.max_length is {self.max_length}; give 2 or more, or null")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise UserError(f"tuning.{name} is {getattr(self, name)}; give more than 0")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"tuning.patience is {self.patience}; give 1 or more, or null")
        if not self.validate and (self.patience or self.select is Select.best):
            raise UserError(
                "tuning.patience and tuning.select=best go by validation accuracy; "
                "set tuning.validate=true, or leave them out"
            )
        if self.start_from is not None and self.adapter is Adapter.full:
            raise UserError(
                "tuning.start_from is an adapter, and tuning=full trains none; use tuning=lora"
            )

    def tokens_a_pass(self, device: str) -> int:
        """`batch_tokens`, or what keeps `device` busy."""
        return self.batch_tokens or (2048 if device == "cpu" else 4096)

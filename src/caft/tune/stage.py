"""Tunes a student through the stages of a method; each is a stage of the store.

A stage is keyed by its rows' contents and by the stage before it, not by the method's name, so
that methods which start alike share their first stage.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from caft.errors import count_of
from caft.models.adapters import find_adapter, refuse_other_base
from caft.models.chat_template import has_working_template
from caft.models.encoding import end_of_turn, uses_chat_template
from caft.models.loading import refuse_missing_quantisation
from caft.models.student import Student
from caft.protocols import Tokenizer
from caft.records import Example, Question, Target, TuningNumbers, describe_content
from caft.store import Artifact, StageKind, Tokens, digest, file_digest, source_digest
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.trainers.sources import TUNING_SOURCES
from caft.trainers.tracker import RunLogger
from caft.tune.check import check_examples, refuse_bare_start, render_example
from caft.tune.config import WHOLE, Adapter, Loss, Part, TuningConfig
from caft.tune.draws import EVERY_ROW, Draws
from caft.tune.examples import (
    TrainingPair,
    choose_asked,
    encode_pair,
    fit_to_length,
    wanted_of,
    weigh_rows,
)
from caft.tune.learning_curve import Row, accuracies

if TYPE_CHECKING:
    from caft.tune.training import Trained, TrainingSpec
    from caft.tune.validation import ValidationSet

log = logging.getLogger(__name__)
SOURCES = ("tune", *TUNING_SOURCES)
_NUMBERS = "tuning.json"
_WEIGHTS = "adapter"
_CHECKPOINTS = "checkpoints"


# Settings that change how a stage is monitored or stored, but not its weights.
_WITHOUT_EFFECT = ("checkpoint_seconds", "merge", "start_from")


@dataclass(frozen=True, slots=True)
class Validation:
    """Questions that are asked after every epoch, each with a target its class is trained on.

    Where a class has several, each form of reply is asked for. Replies may be as long as in
    evaluation, and bare free-text answers have `free_answer_tokens`.
    """

    questions: Sequence[tuple[Question, Target]] = ()
    max_new_tokens: int = 1
    max_thinking_tokens: int | None = None
    free_answer_tokens: int = 1


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """A stage's pairs as tokens, checked, and the question ids of those that are too long."""

    examples: list[Example]
    dropped: list[str]


@dataclass(frozen=True)
class TuneInputs:
    """One tuning stage and all that it depends on; `student` is the one that it starts from.

    `part` is what it is of the config's stage.
    `draws` picks the pairs that an epoch trains; `weights` are those of the classes in the loss,
    and `shares` those of the targets within a class that has several.
    `record` gets every row of its curve, under `title`. `rows` are its own as tokens, where
    `encode_rows` has made them already.
    """

    student: Student
    pairs: Sequence[TrainingPair]
    epochs: int
    prompt: PromptConfig
    config: TuningConfig
    seed: int
    trainer: TrainerConfig
    validation: Validation = field(default_factory=Validation)
    draws: Draws = EVERY_ROW
    weights: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, Mapping[Target, float]] = field(default_factory=dict)
    record: Callable[[Row], None] | None = None
    title: str = "tuning"
    part: Part = WHOLE
    rows: TrainingRows | None = None

    kind: ClassVar[StageKind] = StageKind.tune
    resumable: ClassVar[bool] = True
    scratch: ClassVar[Sequence[str]] = (_CHECKPOINTS, "lightning_logs")

    @property
    def key(self) -> dict[str, object]:
        """For the store; shots are not in it, since tuned models never see them."""
        # Not the class's name: a cut that moves no row to another target changes no weight.
        pairs = (
            (
                describe_content(pair.question, graded=False),
                pair.target,
                pair.rationale,
                *filter(None, [pair.reasoning]),
            )
            for pair in self.pairs
        )
        return {
            "student": self.student.key,
            "pairs": digest(pairs),
            "epochs": self.epochs,
            "prompt": self.prompt,
            "config": {
                setting.name: getattr(self.config, setting.name)
                for setting in fields(self.config)
                if setting.name not in self._without_effect
            },
            "seed": self.seed,
            "validation": digest(self._validation_key) if self.config.validate else None,
            "sources": source_digest(*SOURCES),
            **self._key_of_classes,
        }

    @property
    def _validation_key(self) -> dict[str, object]:
        limits = {each.name: getattr(self.validation, each.name) for each in fields(Validation)}
        asked = [(describe_content(each), target) for each, target in self.validation.questions]
        return {**limits, "questions": asked}

    @property
    def _without_effect(self) -> tuple[str, ...]:
        # Stages that were trained before there was a choice of loss are still found.
        return (*_WITHOUT_EFFECT, "loss") if self.config.loss is Loss.ce else _WITHOUT_EFFECT

    @property
    def _key_of_classes(self) -> dict[str, object]:
        """What depends on the classes themselves; nothing where no row is drawn or weighed."""
        weights = [self.weights.get(pair.complexity, 1.0) for pair in self.pairs]
        key: dict[str, object] = {"weights": digest(weights)} if len(set(weights)) > 1 else {}
        if self.part.epochs > 1:
            key["part"] = (self.part.epoch, self.part.epochs)
        classes = digest([pair.complexity for pair in self.pairs])
        if self.draws.counts:
            key["draws"] = {"of": self.draws, "classes": classes}
        if several := {name: own for name, own in self.shares.items() if len(own) > 1}:
            shares = {
                name: {target.name: share for target, share in own.items()}
                for name, own in several.items()
            }
            key["shares"] = {"of": shares, "classes": classes}
        return key

    def produce(self, folder: Path) -> Tokens:
        """Train, or go on with an interrupted attempt."""
        from caft.tune.training import TrainingSpec

        rows = self.rows or encode_rows(self)
        _show_rows(rows.examples, self.student.tokenizer)
        spec = TrainingSpec(
            student=self.student,
            examples=rows.examples,
            validation=_validation_set(self) if self.config.validate else None,
            epochs=self.epochs,
            config=self.config,
            seed=self.seed,
            trainer=self.trainer,
            folder=folder,
            weights=_WEIGHTS,
            draws=self.draws,
            part=self.part,
        )
        count = len(self.draws.rows_of(rows.examples, 0))
        amount = f"{count_of(count, 'row')} x {count_of(self.epochs, 'epoch')}"
        log.info("%s: %s", self.title, amount)
        self._warn_of_small_classes(rows.examples)
        trained = _watch(spec, self.record, self.title, count)
        epochs = len(accuracies(trained.curve)) or self.epochs
        numbers = _count(rows, epochs, trained, self.draws)
        text = json.dumps(asdict(numbers), indent=1)
        (folder / _NUMBERS).write_text(text, encoding="utf-8")
        return Tokens(trained=numbers.prompt_tokens + numbers.trained_tokens)

    def _warn_of_small_classes(self, examples: Sequence[Example]) -> None:
        for name, count in self.draws.counts.items():
            left = len({row.question_id for row in examples if row.complexity == name})
            if left < count:
                log.warning(
                    "%s: only %s of the class %s can be trained, fewer than the %d that "
                    "an epoch draws; every epoch trains all of them",
                    self.title,
                    count_of(left, "question"),
                    name,
                    count,
                )

    @staticmethod
    def read(folder: Path) -> TuningNumbers:
        """What it trained on, and how its loss went."""
        return TuningNumbers(**json.loads((folder / _NUMBERS).read_text(encoding="utf-8")))


def read_tuned(student: Student, artifact: Artifact) -> Student:
    """The student as a tuning stage left it."""
    return student.after_tuning(artifact.folder / _WEIGHTS, artifact.fingerprint)


def copy_tuned(artifact: Artifact, folder: Path) -> None:
    """Copy the tuned weights into `folder`, compared; UserError if they have been damaged."""
    artifact.copy_out(_WEIGHTS, folder)


def starting_student(student: Student, config: TuningConfig) -> Student:
    """The student that a method's first stage starts from: the base model, or an adapter of it.

    UserError, before any model loads, where the adapter belongs to another base model or this
    machine cannot tune as asked.
    """
    if config.adapter is Adapter.qlora:
        refuse_missing_quantisation()
    if config.start_from is None:
        return student
    folder = find_adapter(config.start_from)
    refuse_other_base(folder, student.base)
    return student.after_tuning(folder, file_digest(folder))


def _watch(
    spec: TrainingSpec, record: Callable[[Row], None] | None, title: str, rows: int
) -> Trained:
    """Train here, or in a process a device; the bar, the log and the logger are here anyway.

    `rows` are those of an epoch.
    """
    from caft.trainers.progress import Moved, StageBar, open_bar
    from caft.trainers.sharing import share
    from caft.tune.training import train

    size = spec.config.batch_size

    def place(steps: float, note: str = "") -> Moved:
        epochs, whole = divmod(int(steps), math.ceil(rows / size))
        return Moved(epochs * rows + whole * size, steps % 1 * min(size, rows), note)

    with open_bar(spec.trainer.progress) as bar:
        line = StageBar(bar, title, rows * spec.epochs)

        def show(row: Row | Moved) -> None:
            if isinstance(row, Moved):
                line.show(place(row.in_work, row.note))
                return
            line.show(place(row["step"]))
            if "validation_accuracy" in row:
                log.info(
                    "epoch %d: validation accuracy %.1f%% of %s",
                    row["epoch"],
                    100 * row["validation_accuracy"],
                    count_of(int(row["validation_questions"]), "question"),
                )
            if record:
                record(row)

        return share(train, spec, spec.trainer.processes, show, spec.student.device)


def log_row(logger: RunLogger, stage: int, row: Row) -> None:
    """One row of a curve, now or out of the store; loggers count steps and epochs from 0."""
    group = "validation" if "validation_accuracy" in row else "train"
    metrics = {
        f"{group}/{name.removeprefix('validation_')}": value
        for name, value in row.items()
        if name not in ("step", "epoch")
    }
    logger.log_step(stage, {**metrics, "epoch": row["epoch"] - 1}, int(row["step"]) - 1)


def _count(rows: TrainingRows, epochs: int, trained: Trained, draws: Draws) -> TuningNumbers:
    seen = [row for epoch in range(epochs) for row in draws.rows_of(rows.examples, epoch)]
    taught = [row for row in seen if row.target.taught]
    return TuningNumbers(
        examples=len({(row.question_id, row.target) for row in seen}),
        dropped=rows.dropped,
        epochs=epochs,
        prompt_tokens=sum(len(row.prompt_ids) for row in seen),
        trained_tokens=sum(len(row.completion_ids) for row in seen),
        trained_rationale_tokens=sum(len(row.completion_ids) for row in taught),
        rationale_tokens={_name_text(row): len(row.completion_ids) for row in taught},
        parameters=trained.parameters,
        trainable_parameters=trained.trainable_parameters,
        curve=trained.curve,
    )


def _name_text(row: Example) -> str:
    """One name for one text of a teacher, whichever stages train it."""
    kind = "" if row.target is Target.rationale else f"{row.target.name} of "
    return f"{kind}{row.question_id}"


def encode_rows(tuning: TuneInputs) -> TrainingRows:
    """The stage's training pairs as tokens; no model is loaded.

    UserError if a row could not be trained as it should be, or is longer than allowed.
    """
    tokenizer, config = tuning.student.tokenizer, tuning.config
    chat = uses_chat_template(tuning.prompt.style, tokenizer)
    end_id = end_of_turn(tokenizer, chat=chat)
    examples = [
        encode_pair(pair, tuning.prompt, config.answer_target, tokenizer, chat=chat, end_id=end_id)
        for pair in tuning.pairs
    ]
    check_examples(examples, tokenizer, end_id)
    if not chat:
        refuse_bare_start(examples, tokenizer)
    context = tuning.student.context
    kept, dropped = fit_to_length(examples, config.max_length, config.overlong, context)
    return TrainingRows(weigh_rows(kept, tuning.weights, tuning.shares), dropped)


def _show_rows(examples: Sequence[Example], tokenizer: Tokenizer) -> None:
    # One row of every target: a joint stage trains two kinds.
    for row in {row.target: row for row in reversed(examples)}.values():
        log.info(
            "Example row (%s); loss is computed inside ⟦ ⟧:\n%s",
            row.target.value,
            render_example(row, tokenizer),
        )


def _validation_set(tuning: TuneInputs) -> ValidationSet:
    from caft.models.reply_rules import ReplyRules
    from caft.models.thinking_cap import thinking_rules
    from caft.tune.validation import ValidationSet, ask

    student, config, validation = tuning.student, tuning.config, tuning.validation
    tokenizer = student.tokenizer
    chat = uses_chat_template(tuning.prompt.style, tokenizer)
    chosen = choose_asked(validation.questions, tuning.prompt, config)
    return ValidationSet(
        asked=tuple(
            ask(
                question,
                wanted_of(target, config.answer_target),
                tuning.prompt,
                tokenizer,
                chat=chat,
                thinking=target is Target.thinking,
            )
            for question, target in chosen
        ),
        prompt=tuning.prompt,
        tokens_a_pass=config.tokens_a_pass(student.device),
        written=ReplyRules(
            max_new_tokens=validation.max_new_tokens,
            end_ids=student.end_ids(chat=chat),
            thinking=thinking_rules(tokenizer, validation.max_thinking_tokens) if chat else None,
        ),
        bare=ReplyRules(
            max_new_tokens=validation.free_answer_tokens,
            end_ids=student.end_ids(chat=has_working_template(tokenizer)),
            stop_after_marker=False,
            stop_after_line=True,
        ),
    )

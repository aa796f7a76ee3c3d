"""Tunes a student through the stages of a method; each stage is kept in the store by itself.

A stage is keyed by its rows' contents and by the stage before it, not by the method's name, so
that methods which start alike share their first stage.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caft.models.student import Student
from caft.records import Example, Target
from caft.store import Artifact, Store, digest, source_digest
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.tune.config import Adapter, TuningConfig
from caft.tune.examples import Lesson

log = logging.getLogger(__name__)
_NUMBERS = "tuning.json"
_WEIGHTS = "adapter"


@dataclass(frozen=True, slots=True)
class Tuning:
    """Everything one tuning stage depends on. `student` is the one that the stage starts from."""

    student: Student
    lessons: Sequence[Lesson]
    epochs: int
    prompt: PromptConfig
    config: TuningConfig
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """For the store; shots are not in it, since tuned models never see them."""
        return {
            "student": self.student.key,
            "lessons": digest(self.lessons),
            "epochs": self.epochs,
            "prompt": self.prompt,
            "config": self.config,
            "seed": self.seed,
            "sources": source_digest("tune", "models", "text"),
        }


@dataclass(frozen=True, slots=True)
class TuningNumbers:
    """What a stage trained on and how its loss went. Token counts are of one epoch.

    `trained_tokens` are completion tokens; `rationale_tokens` those of rationale rows, by
    question id, since two stages may train the same rationale;
    `curve` has one row an optimizer step: step, epoch, loss (nats a token), gradient_norm,
    learning_rate.
    """

    examples: int
    dropped: list[str]
    epochs: int
    prompt_tokens: int
    trained_tokens: int
    rationale_tokens: dict[str, int]
    parameters: int
    trainable_parameters: int
    curve: list[dict[str, float]]


def find_tuning(tuning: Tuning, store: Store) -> Artifact | None:
    """The tuned weights, where they have been made before."""
    return store.find("tune", tuning.key)


def read_numbers(artifact: Artifact) -> TuningNumbers:
    """What a tuning stage trained on."""
    return TuningNumbers(**json.loads((artifact.folder / _NUMBERS).read_text(encoding="utf-8")))


def read_tuned(student: Student, artifact: Artifact) -> Student:
    """The student as a tuning stage left it."""
    return student.after_tuning(artifact.folder / _WEIGHTS, artifact.fingerprint)


def tune_student(
    tuning: Tuning, store: Store, trainer: TrainerConfig, logger: Any, title: str
) -> Artifact:
    """Train one stage, or take its weights from the store."""

    def produce(folder: Path) -> None:
        numbers = _train(tuning, trainer, logger, title, folder)
        text = json.dumps(asdict(numbers), indent=1)
        (folder / _NUMBERS).write_text(text, encoding="utf-8")

    return store.obtain("tune", tuning.key, produce)


def _train(
    tuning: Tuning, trainer_config: TrainerConfig, logger: Any, title: str, folder: Path
) -> TuningNumbers:
    import torch

    from caft.models.loading import quiet_transformers

    examples, dropped = _encode(tuning)
    if dropped:
        log.warning("%d rows are too long and left out: %s", len(dropped), ", ".join(dropped[:5]))
    # The process's own random state is left as it was: the next stage must not depend on it.
    with torch.random.fork_rng():
        torch.manual_seed(tuning.seed)
        model = _trainable(tuning)
        curve = _fit(model, examples, tuning, trainer_config, logger, title, folder)
    with quiet_transformers():
        model.save_pretrained(folder / _WEIGHTS, safe_serialization=True)
    if tuning.config.adapter is Adapter.full:
        tuning.student.tokenizer.save_pretrained(folder / _WEIGHTS)
    return _count(model, examples, dropped, tuning.epochs, curve)


def _fit(  # noqa: PLR0917
    model: Any,
    examples: Sequence[Example],
    tuning: Tuning,
    trainer_config: TrainerConfig,
    logger: Any,
    title: str,
    folder: Path,
) -> list[dict[str, float]]:
    from caft.trainers.build import build_trainer
    from caft.trainers.progress import CountingProgress
    from caft.tune.batches import Step
    from caft.tune.loader import EpochLoader
    from caft.tune.module import TuningModule

    config, epochs = tuning.config, tuning.epochs
    loader = EpochLoader(examples, config.batch_size, config.batch_tokens, tuning.seed)
    curve: list[dict[str, float]] = []
    module = TuningModule(model, config, steps=len(loader) * epochs, record=curve.append)

    def rows_in(batch: Step) -> int:
        return len(batch.question_ids)

    log.info("%s: %d rows x %d epochs, %d steps", title, len(examples), epochs, module.steps)
    bar = CountingProgress(title, len(examples) * epochs, rows_in, shown=trainer_config.progress)
    trainer = build_trainer(
        trainer_config, folder=folder, epochs=epochs, logger=logger, callbacks=[bar]
    )
    trainer.fit(module, loader)
    return curve


def _count(
    model: Any,
    examples: Sequence[Example],
    dropped: list[str],
    epochs: int,
    curve: list[dict[str, float]],
) -> TuningNumbers:
    from caft.models.adapters import count_parameters

    parameters, trainable = count_parameters(model)
    rationales = [row for row in examples if row.target is Target.rationale]
    return TuningNumbers(
        examples=len(examples),
        dropped=dropped,
        epochs=epochs,
        prompt_tokens=sum(len(row.prompt_ids) for row in examples),
        trained_tokens=sum(len(row.completion_ids) for row in examples),
        rationale_tokens={row.question_id: len(row.completion_ids) for row in rationales},
        parameters=parameters,
        trainable_parameters=trainable,
        curve=curve,
    )


def _encode(tuning: Tuning) -> tuple[list[Example], list[str]]:
    from caft.models.encoding import asks_in_chat, end_of_turn
    from caft.tune.examples import encode_lesson, fit_to_length

    tokenizer = tuning.student.tokenizer
    chat = asks_in_chat(tuning.prompt.style, tokenizer)
    end_id = end_of_turn(tokenizer, chat=chat)
    examples = [
        encode_lesson(
            lesson, tuning.prompt, tuning.config.answer_target, tokenizer, chat=chat, end_id=end_id
        )
        for lesson in tuning.lessons
    ]
    limits = [limit for limit in (tuning.config.max_length, tuning.student.context) if limit]
    return fit_to_length(examples, min(limits, default=None), tuning.config.overlong)


def _trainable(tuning: Tuning) -> Any:
    from caft.models.adapters import add_lora

    config = tuning.config
    model = tuning.student.load(trainable=True)
    if config.adapter is Adapter.lora and tuning.student.tuned is None:
        lora = config.lora
        model = add_lora(
            model,
            r=lora.r,
            alpha=lora.alpha,
            dropout=lora.dropout,
            modules=lora.modules,
            use_dora=lora.use_dora,
            use_rslora=lora.use_rslora,
        )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model

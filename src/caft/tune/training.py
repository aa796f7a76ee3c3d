"""One process's part of a stage: a model, its training, its checkpoints, its weights on disk.

With several devices every one of them walks through here; the first writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from caft.models.adapters import (
    add_lora,
    count_parameters,
    prepare_checkpointing,
    save_tuned,
)
from caft.models.loading import resolve_dtype
from caft.models.student import Student
from caft.records import Example
from caft.signals import ends_by_itself
from caft.store import Checkpoints
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.distributed import Ranks
from caft.tune.config import Adapter, TuningConfig
from caft.tune.learning_curve import Row
from caft.tune.loader import EpochLoader
from caft.tune.module import TuningModule, random_state
from caft.tune.validation import ValidationSet, count_correct

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """A stage whose rows are tokens: everything that a process of its own needs to train it.

    Weights go to `folder`/`weights`; checkpoints lie in `folder`/checkpoints.
    """

    student: Student
    examples: Sequence[Example]
    examination: ValidationSet | None
    epochs: int
    config: TuningConfig
    seed: int
    trainer: TrainerConfig
    folder: Path
    weights: str

    @property
    def checkpoints(self) -> Checkpoints:
        """Where an interrupted stage goes on from."""
        return Checkpoints(self.folder / "checkpoints")


@dataclass(frozen=True, slots=True)
class Trained:
    """How it went: the curve, and all and trainable parameters."""

    curve: list[Row]
    parameters: int
    trainable_parameters: int


def train(ranks: Ranks, tell: Callable[[Row], None], job: TrainingSpec) -> Trained:
    """Train, or go on training, and write the weights. `tell` gets every row of the curve."""
    # The process's own random state is left as it was: the next stage must not depend on it.
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        model = _trainable(job)
        # Each device drops out other activations.
        torch.manual_seed(job.seed if ranks.rank == 0 else job.seed + 1_000_003 * ranks.rank)
        module = _fit(model, ranks, tell, job)
    if ranks.rank == 0:
        _take_best(module)
        dtype = resolve_dtype(job.student.config, job.student.device)
        save_tuned(model, job.folder / job.weights, dtype=dtype, base=job.student.base)
        if job.config.adapter is Adapter.full:
            job.student.tokenizer.save_pretrained(job.folder / job.weights)
    parameters, trainable = count_parameters(model)
    return Trained(module.curve, parameters, trainable)


def _trainable(job: TrainingSpec) -> Any:
    config = job.config
    is_full = config.adapter is Adapter.full
    model = job.student.load(
        trainable=True, float32=is_full, four_bits=config.adapter is Adapter.qlora
    )
    if not is_full and job.student.tuned is None:
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
        prepare_checkpointing(model)
    return model


def _fit(model: Any, ranks: Ranks, tell: Callable[[Row], None], job: TrainingSpec) -> TuningModule:
    config = job.config
    state = _read_state(job)
    loader = EpochLoader(
        job.examples,
        config.batch_size,
        config.tokens_a_pass(job.student.device),
        job.seed,
        done=state["steps"] if state else 0,
        share=ranks.share,
    )
    module = TuningModule(
        model,
        config,
        steps=len(loader) * job.epochs,
        steps_an_epoch=len(loader),
        record=tell,
        compute_dtype=resolve_dtype(job.student.config, job.student.device),
        ranks=ranks,
        validate=_examiner(model, ranks, job),
    )
    if state:
        _restore(module, state, ranks)
        log.info("resumed after step %d of %d", module.steps_done, module.steps)
        for row in module.curve:
            tell(row)
    module.keep = _Keeper(module, ranks, job)
    trainer = build_trainer(
        job.trainer,
        folder=job.folder,
        epochs=job.epochs - loader.first_epoch,
        ranks=ranks.count,
    )
    with ends_by_itself():
        trainer.fit(module, loader)
    return module


def _examiner(
    model: Any, ranks: Ranks, job: TrainingSpec
) -> Callable[[], tuple[float, int]] | None:
    examination = job.examination
    if examination is None or not examination.asked:
        return None
    tokenizer = job.student.tokenizer

    def examine() -> tuple[float, int]:
        own = examination.asked[ranks.share]
        right = count_correct(model, tokenizer, examination, own)
        (total,) = ranks.add(float(right))
        return total / len(examination.asked), len(examination.asked)

    return examine


def _take_best(module: TuningModule) -> None:
    if module.best is not None:
        trained = module.trained
        with torch.no_grad():
            for name, weight in module.best.items():
                trained[name].copy_(weight)


# --- Checkpoints -------------------------------------------------------------------------------


class _Keeper:
    """Writes a checkpoint where one is due, and ends the work where somebody asked for it."""

    def __init__(self, module: TuningModule, ranks: Ranks, job: TrainingSpec) -> None:
        self.module = module
        self.ranks = ranks
        self.seconds = job.config.checkpoint_seconds
        self.checkpoints = job.checkpoints
        self.last = time.monotonic()
        self.kept = module.steps_done

    def __call__(self, must_stop: bool) -> None:
        (due,) = self.ranks.add(float(self.ranks.rank == 0 and self._is_due()))
        # At an epoch's end the last step may be kept already: validation moves no weight.
        if (due or must_stop) and self.kept != self.module.steps_done:
            self._save()
            self.last = time.monotonic()
            self.kept = self.module.steps_done
        if must_stop:
            log.info(
                "stopped after step %d of %d, whose checkpoint is kept; the same command goes on "
                "from there",
                self.module.steps_done,
                self.module.steps,
            )
            raise SystemExit(0)

    def _is_due(self) -> bool:
        return time.monotonic() - self.last >= self.seconds

    def _save(self) -> None:
        states = self.ranks.gather(random_state())
        if self.ranks.rank == 0:
            state = _state_of(self.module, states)

            def write(stream: BinaryIO) -> None:
                torch.save(state, stream)

            self.checkpoints.save(self.module.steps_done, write)


def _state_of(module: TuningModule, random_states: Sequence[torch.Tensor]) -> dict[str, Any]:
    optimizer: Any = module.optimizers()
    return {
        "steps": module.steps_done,
        "curve": module.curve,
        "weights": {name: weight.detach() for name, weight in module.trained.items()},
        "best": module.best,
        "optimizer": optimizer.optimizer.state_dict(),
        "random": list(random_states),
    }


def _read_state(job: TrainingSpec) -> dict[str, Any] | None:
    path = job.checkpoints.newest()
    if path is None:
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _restore(module: TuningModule, state: dict[str, Any], ranks: Ranks) -> None:
    trained = module.trained
    assert set(trained) == set(state["weights"]), "a checkpoint of other weights"
    with torch.no_grad():
        for name, weight in state["weights"].items():
            trained[name].copy_(weight)
    module.steps_done = state["steps"]
    module.curve = state["curve"]
    if state["best"] is not None:
        module.best = {name: w.to(module.model.device) for name, w in state["best"].items()}
    module.optimizer_state = state["optimizer"]
    # Another number of devices than before: the first one's draws go on, new ones start anew.
    if ranks.rank < len(state["random"]):
        module.random_state = state["random"][ranks.rank]

"""One process's part of a tuning stage: model, training, checkpoints, and weights on disk.

With several devices, each has a process that runs this; the first one writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch

from caft.kernels.chunked_loss import has_plain_head
from caft.kernels.rotary import switch_of
from caft.models.adapters import add_lora, count_parameters, prepare_checkpointing, save_tuned
from caft.models.loading import resolve_dtype
from caft.models.student import Student
from caft.protocols import CausalLM
from caft.records import Example
from caft.signals import ends_by_itself
from caft.store import Checkpoints
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.distributed import Ranks
from caft.trainers.progress import Moved, Pace
from caft.trainers.sharding import (
    divide_like,
    gather_whole,
    is_sharded,
    load_sharded,
    on_host,
    together,
)
from caft.trainers.watching import watch_layers
from caft.tune.batches import EpochLoader
from caft.tune.config import WHOLE, Adapter, Part, TuningConfig
from caft.tune.draws import EVERY_ROW, Draws
from caft.tune.learning_curve import Row
from caft.tune.module import VALIDATING, TuningModule, random_state
from caft.tune.validation import ValidationSet, count_correct

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """A stage whose rows are tokens: everything that a process of its own needs to train it.

    Weights go to `folder`/`weights`; checkpoints go to `folder`/checkpoints.
    """

    student: Student
    examples: Sequence[Example]
    validation: ValidationSet | None
    epochs: int
    config: TuningConfig
    seed: int
    trainer: TrainerConfig
    folder: Path
    weights: str
    draws: Draws = EVERY_ROW
    part: Part = WHOLE

    @property
    def checkpoints(self) -> Checkpoints:
        """Where an interrupted stage resumes from."""
        return Checkpoints(self.folder / "checkpoints")


@dataclass(frozen=True, slots=True)
class Trained:
    """How it went: the curve, and all and trainable parameters."""

    curve: list[Row]
    parameters: int
    trainable_parameters: int


Report = Callable[[Row | Moved], None]
"""Gets every row of the curve, and in between how many steps are in work or done."""


def train(ranks: Ranks, report: Report, spec: TrainingSpec) -> Trained:
    """Train, or resume training, and write the weights."""
    # The process's own random state is left as it was: the next stage must not depend on it.
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        model = _load(spec, ranks)
        # Each device draws its own dropout.
        torch.manual_seed(spec.seed + 1_000_003 * ranks.rank)
        module = _fit(model, ranks, report, spec)
    _copy(module.best or {}, module.trained)
    parameters, trainable = count_parameters(model)
    # Adapters are whole everywhere.
    divided = is_sharded(model) and spec.config.adapter is Adapter.full
    weights = gather_whole(module.trained, ranks) if divided else {}
    if ranks.rank == 0:
        if divided:
            model = _trainable(replace(spec, student=on_host(spec.student)))
            _copy(weights, dict(model.named_parameters()))
        dtype = resolve_dtype(spec.student.config, spec.student.device)
        save_tuned(model, spec.folder / spec.weights, dtype=dtype, base=spec.student.base)
        if spec.config.adapter is Adapter.full:
            spec.student.tokenizer.save_pretrained(spec.folder / spec.weights)
    return Trained(module.curve, parameters, trainable)


def _load(spec: TrainingSpec, ranks: Ranks) -> CausalLM:
    if not (spec.trainer.shards and ranks.count > 1):
        return _trainable(spec)
    again = spec.config.runs_again(spec.student.dtype, divided=True)
    if again and not spec.config.gradient_checkpointing:
        log.info("layers run again in the backward pass, and weights are gathered in float32")
        config = replace(spec.config, gradient_checkpointing=True)
        spec = replace(spec, config=config)
    log.info(
        "weights are divided among %d devices while they are tuned; scoring and replies have a "
        "whole copy on each",
        ranks.count,
    )
    return load_sharded(
        ranks, spec.student, lambda student: _trainable(replace(spec, student=student))
    )


def _trainable(spec: TrainingSpec) -> CausalLM:
    config = spec.config
    is_full = config.adapter is Adapter.full
    model: CausalLM = spec.student.load(
        trainable=True, float32=is_full, four_bits=config.adapter is Adapter.qlora
    )
    has_plain_head(model)  # is found out here, before weights are divided
    if not is_full and spec.student.tuned is None:
        model = add_lora(model, **asdict(config.lora))
    if config.gradient_checkpointing:
        prepare_checkpointing(model)
    return model


def _fit(model: CausalLM, ranks: Ranks, report: Report, spec: TrainingSpec) -> TuningModule:
    config = spec.config
    state = _read_state(spec)
    loader = EpochLoader(
        spec.examples,
        config.batch_size,
        config.tokens_a_pass(spec.student.device),
        spec.seed,
        done=state["steps"] if state else 0,
        share=ranks.share,
        draws=spec.draws,
        part=spec.part,
        switch=switch_of(model),
    )
    module = TuningModule(
        model,
        config,
        steps=len(loader) * spec.epochs,
        steps_an_epoch=len(loader),
        record=report,
        compute_dtype=resolve_dtype(spec.student.config, spec.student.device),
        ranks=ranks,
        part=spec.part,
    )
    module.validate = _validator(module, ranks, spec)
    if state:
        _restore(module, state, ranks)
        for row in module.curve:
            report(row)
        # After the rows, or it reads as if the first epochs were trained again.
        log.info("resumed after step %d of %d", module.steps_done, module.steps)
    module.keep = _Keeper(module, ranks, spec)
    trainer = build_trainer(
        spec.trainer,
        folder=spec.folder,
        epochs=spec.epochs - loader.first_epoch,
        ranks=ranks.count,
        sharded=module.sharded,
    )
    pace = Pace(report)

    def move(share: float, note: str = "") -> None:
        pace.work(module.steps_done + share, note, at_once=bool(note))

    module.moved = move
    with ends_by_itself(), watch_layers(model, module.pass_layers):
        trainer.fit(module, loader)
    return module


def _validator(
    module: TuningModule, ranks: Ranks, spec: TrainingSpec
) -> Callable[[], tuple[float, int]] | None:
    validation = spec.validation
    if validation is None or not validation.asked:
        return None

    def validate() -> tuple[float, int]:
        own, tokenizer = validation.asked[ranks.share], spec.student.tokenizer

        def tell(count: int) -> None:
            module.moved(0.0, f"{VALIDATING}, {count} of {len(own)} answered")

        with together(module.model, ranks):
            count = count_correct(module.model, tokenizer, validation, own, tell)
        (right,) = ranks.add(float(count))
        return right / len(validation.asked), len(validation.asked)

    return validate


@torch.no_grad()
def _copy(weights: Mapping[str, torch.Tensor], places: Mapping[str, torch.Tensor]) -> None:
    for name, weight in weights.items():
        places[name].copy_(divide_like(weight, places[name]))


# --- Checkpoints -------------------------------------------------------------------------------


class _Keeper:
    """Writes a checkpoint when one is due, and ends the work after a signal."""

    def __init__(self, module: TuningModule, ranks: Ranks, spec: TrainingSpec) -> None:
        self.module, self.ranks, self.spec = module, ranks, spec
        self.last = time.monotonic()
        self.kept = module.steps_done

    def __call__(self, must_stop: bool) -> None:
        seconds = time.monotonic() - self.last
        is_due = self.ranks.rank == 0 and seconds >= self.spec.config.checkpoint_seconds
        (due,) = self.ranks.add(float(is_due))
        # At an epoch's end the last step may be kept already: validation moves no weight.
        if (due or must_stop) and self.kept != self.module.steps_done:
            self._save()
            self.last = time.monotonic()
            self.kept = self.module.steps_done
        if must_stop:
            log.info(
                "stopped after step %d of %d, whose checkpoint is kept; the same command resumes "
                "from there",
                self.module.steps_done,
                self.module.steps,
            )
            # A launcher ends all once one has ended: not before the checkpoint is written. Whoever
            # hears of it first may be gone before the others do.
            with suppress(RuntimeError):
                self.ranks.add(0.0)
            raise SystemExit(0)

    def _save(self) -> None:
        random_states = self.ranks.gather(random_state())
        module = self.module
        state: dict[str, Any] = gather_whole(
            {
                "steps": module.steps_done,
                "curve": module.curve,
                "weights": {name: weight.detach() for name, weight in module.trained.items()},
                "best": module.best,
                "optimizer": module.optimizers().optimizer.state_dict(),
                "random": random_states,
            },
            self.ranks,
        )
        if self.ranks.rank == 0:
            self.spec.checkpoints.save(module.steps_done, partial(torch.save, state))


class _State(TypedDict):
    """What a checkpoint holds. `random` has one state of the generators a device."""

    steps: int
    curve: list[Row]
    weights: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor] | None
    optimizer: dict[str, Any]
    random: list[torch.Tensor]


def _read_state(spec: TrainingSpec) -> _State | None:
    path = spec.checkpoints.newest()
    if path is None:
        return None
    state: _State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _restore(module: TuningModule, state: _State, ranks: Ranks) -> None:
    assert set(module.trained) == set(state["weights"]), "a checkpoint of other weights"
    _copy(state["weights"], module.trained)
    module.steps_done = state["steps"]
    module.curve = state["curve"]
    if module.keeps_best and state["best"] is not None:
        module.best = {
            name: divide_like(w, module.trained[name]) for name, w in state["best"].items()
        }
    module.optimizer_state = _divide_moments(state["optimizer"], list(module.trained.values()))
    # Another number of devices than before: the first one's draws continue, new ones start fresh.
    if ranks.rank < len(state["random"]):
        module.random_state = state["random"][ranks.rank]


def _divide_moments(state: dict[str, Any], weights: Sequence[torch.Tensor]) -> dict[str, Any]:
    """AdamW's state, whose moments are divided as their weights are; `step` has no dimensions."""
    divided = {
        number: {
            name: divide_like(value, weights[number]) if value.dim() else value
            for name, value in moments.items()
        }
        for number, moments in state["state"].items()
    }
    return {**state, "state": divided}

"""Distributes a stage's batches to processes, which keep their predictions in a journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback
from torch.utils.data import DataLoader

from caft.models.student import Student
from caft.protocols import CausalLM
from caft.signals import take_signals_back
from caft.store import Journal
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.distributed import Ranks
from caft.trainers.progress import Moved, Pace
from caft.trainers.watching import PredictingModule


class Batch(Protocol):
    """A batch of a module, with the ids of its questions."""

    @property
    def question_ids(self) -> tuple[str, ...]:
        """In the batch's own order."""


@dataclass(frozen=True, slots=True)
class PredictionSpec:
    """Batches for one module, and where their results go: all that a process needs."""

    student: Student
    make_module: Callable[[CausalLM], PredictingModule]
    batches: tuple[Batch, ...]
    journal: Journal
    trainer: TrainerConfig


def predict_share(ranks: Ranks, report: Callable[[Moved], None], spec: PredictionSpec) -> None:
    """Predict every n-th batch, as one of n processes. Results go to the journal.

    `report` is told how far this process has come.
    """
    own = spec.batches[ranks.share]
    module = spec.make_module(spec.student.load_for_inference())
    # Every process has read the same files; Lightning would send the weights around once more, and
    # cannot if they are in a CPU's own layout.
    module._ddp_params_and_buffers_to_ignore = [name for name, _ in module.named_parameters()]
    pace = Pace(report)
    module.moved = pace.work

    def start(*_: object) -> None:
        if ranks.count > 1:  # Lightning's handler of SIGTERM would send a message into an exchange
            take_signals_back()

    def keep(
        _trainer: Trainer,
        _module: PredictingModule,
        results: Sequence[NamedTuple],
        batch: Batch,
        *_: int,
    ) -> None:
        spec.journal.append([result._asdict() for result in results])
        pace.finish(len(batch.question_ids))
        if ranks.asked_to_stop():
            raise SystemExit(0)

    trainer = build_trainer(
        spec.trainer,
        folder=spec.journal.folder,
        callbacks=[LambdaCallback(on_predict_start=start, on_predict_batch_end=keep)],
        ranks=ranks.count,
    )
    # A tuple has the methods of a torch dataset, but not its type.
    loader = DataLoader[Batch](own, batch_size=None)  # type: ignore[arg-type]
    with module.watching():
        trainer.predict(module, loader, return_predictions=False)

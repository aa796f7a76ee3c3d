"""A stage's batches, dealt out to processes; what each of them finds stands in a journal.

On several devices every process loads the student itself and takes its share: nothing but the
journal comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytorch_lightning import Callback, LightningModule
from torch.utils.data import DataLoader

from caft.models.student import Student
from caft.store import Journal
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.distributed import Ranks
from caft.trainers.progress import CountingProgress


class KeepInJournal(Callback):  # type: ignore[misc]
    """Writes every batch's results down as they come, and stops behind one where it is asked to."""

    def __init__(self, journal: Journal, asked_to_stop: Callable[[], bool]) -> None:
        self.journal, self.asked_to_stop = journal, asked_to_stop

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Lightning's hook."""
        self.journal.append([result._asdict() for result in outputs])
        if self.asked_to_stop():
            raise SystemExit(0)


@dataclass(frozen=True, slots=True)
class Predicting:
    """Batches for one module, and where their results go: all that a process must be told."""

    title: str
    student: Student
    make_module: Callable[[Any], LightningModule]
    batches: tuple[Any, ...]
    journal: Journal
    trainer: TrainerConfig


def predict_share(ranks: Ranks, _tell: Callable[[Any], None], job: Predicting) -> None:
    """Run every n-th batch, as one of n processes. Results stand in the journal."""
    own: Any = job.batches[ranks.share]

    def count_questions(batch: Any) -> int:
        return len(batch.question_ids)

    bar = CountingProgress(
        job.title,
        sum(map(count_questions, own)),
        count_questions,
        shown=job.trainer.progress and not ranks.rank,
    )
    keep = KeepInJournal(job.journal, ranks.asked_to_stop)
    trainer = build_trainer(
        job.trainer, folder=job.journal.folder, callbacks=[bar, keep], ranks=ranks.count
    )
    module = job.make_module(job.student.load_for_inference())
    # Every process has read the same files; Lightning would send the weights around once more, and
    # cannot where they lie in a CPU's own order.
    module._ddp_params_and_buffers_to_ignore = [name for name, _ in module.named_parameters()]
    # A list has all that a data set of torch needs, but not its type.
    trainer.predict(module, DataLoader(own, batch_size=None), return_predictions=False)

"""A stage's predictions, batch by batch: on one device or several, taken up again after a kill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from caft.models.student import Student
from caft.signals import asked_to_end
from caft.store import Journal
from caft.trainers.config import TrainerConfig

if TYPE_CHECKING:
    from caft.trainers.replies import ReplyConfig, WrittenReply

log = logging.getLogger(__name__)

JOURNALS = ("*.jsonl",)
"""What an interrupted attempt leaves to the next one, for `Store.obtain`."""


class Batch(Protocol):
    """What a module takes at once, with the questions that it answers."""

    @property
    def question_ids(self) -> tuple[str, ...]:
        """In the batch's own order."""
        ...


class Predictor:
    """Lets a student predict, and keeps what comes in the stage's unfinished folder."""

    def __init__(self, student: Student, trainer: TrainerConfig, folder: Path) -> None:
        self.student, self.trainer, self.folder = student, trainer, folder

    def predict(
        self,
        make_module: Callable[[Any], Any],
        batches: Sequence[Batch],
        *,
        title: str,
        journal_name: str = "predictions",
    ) -> dict[str, dict[str, Any]]:
        """Results by question id; `title` is shown, `journal_name` stands in the folder.

        Batches whose questions are all in the journal of an interrupted attempt are not run.
        """
        journal = Journal(self.folder, journal_name)
        done = {row["question_id"] for row in journal.read()}
        left = [batch for batch in batches if not done.issuperset(batch.question_ids)]
        if done:
            log.info("%s: %d results of an interrupted attempt are taken over", title, len(done))
        if left:
            self._run(title, make_module, left, journal)
            journal.close()
        results = {row["question_id"]: row for row in journal.read()}
        assert all(name in results for batch in batches for name in batch.question_ids), (
            f"{title}: rows are missing"
        )
        return results

    def write(
        self,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        batch_size: int,
        config: ReplyConfig,
        *,
        title: str,
    ) -> dict[str, WrittenReply]:
        """Greedy replies by question id."""
        from caft.trainers.replies import ReplyModule, WrittenReply, plan_replies

        make_module = partial(ReplyModule, tokenizer=self.student.tokenizer, config=config)
        batches = plan_replies(prompts, batch_size)
        results = self.predict(make_module, batches, title=title, journal_name="replies")
        return {name: WrittenReply(**row) for name, row in results.items()}

    def _run(
        self,
        title: str,
        make_module: Callable[[Any], Any],
        batches: Sequence[Batch],
        journal: Journal,
    ) -> None:
        from caft.trainers.distributed import Ranks, run_ranks
        from caft.trainers.worker import Predicting, predict_share

        job = Predicting(title, self.student, make_module, tuple(batches), journal, self.trainer)
        count = min(self.trainer.devices, len(batches))
        if count == 1:
            predict_share(Ranks(asked_to_stop=asked_to_end), _hear_nothing, job)
        else:
            run_ranks(predict_share, (job,), count, _hear_nothing, self.student.device)


def _hear_nothing(_message: Any) -> None:
    """Processes that predict tell their journals everything."""

"""A stage's predictions, batch by batch: on one device or several, resumed after a kill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from caft.models.student import Student
from caft.protocols import CausalLM
from caft.signals import asked_to_end
from caft.store import Journal
from caft.trainers.config import TrainerConfig

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

    from caft.engines.replies import Engine
    from caft.models.generation import ReplyRules
    from caft.trainers.replies import WrittenReply
    from caft.trainers.worker import Batch

log = logging.getLogger(__name__)

JOURNALS = ("*.jsonl",)
"""The files that an interrupted attempt leaves to the next one, for `Store.obtain`."""

Row: TypeAlias = dict[str, Any]
"""One result from a journal, by the names of its fields."""


class Predictor:
    """Runs a student's predictions, and keeps them in the stage's unfinished folder."""

    def __init__(self, student: Student, trainer: TrainerConfig, folder: Path) -> None:
        self.student, self.trainer, self.folder = student, trainer, folder

    def predict(
        self,
        make_module: Callable[[CausalLM], LightningModule],
        batches: Sequence[Batch],
        *,
        title: str,
        journal_name: str = "predictions",
    ) -> dict[str, Row]:
        """Results by question id, those in the journal of an interrupted attempt included."""
        from caft.trainers.distributed import Ranks, run_ranks
        from caft.trainers.worker import PredictionSpec, predict_share

        journal = Journal(self.folder, journal_name)
        done = {row["question_id"] for row in journal.read()}
        left = [batch for batch in batches if not done.issuperset(batch.question_ids)]
        if done:
            log.info("%s: %d results of an interrupted attempt are kept", title, len(done))
        if left:
            spec = PredictionSpec(
                title, self.student, make_module, tuple(left), journal, self.trainer
            )
            count = min(self.trainer.devices, len(left))
            if count == 1:
                predict_share(Ranks(asked_to_stop=asked_to_end), _ignore, spec)
            else:
                run_ranks(predict_share, (spec,), count, _ignore, self.student.device)
            journal.close()
        results = {row["question_id"]: row for row in journal.read()}
        assert all(name in results for batch in batches for name in batch.question_ids), (
            f"{title}: rows are missing"
        )
        return results

    def write(
        self,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        rules: ReplyRules,
        *,
        rows: int,
        title: str,
        engine: Engine | None = None,
    ) -> dict[str, WrittenReply]:
        """Greedy replies by question id, `rows` of them written at once.

        An `engine` writes them in our place, as many at once as it sees fit; it knows no spread.
        """
        from caft.trainers.replies import ReplyModule, WrittenReply, plan_replies

        if engine is not None:
            return self._write_with(engine, prompts, rules, title)
        tokenizer = self.student.tokenizer
        make_module = partial(ReplyModule, tokenizer=tokenizer, rules=rules, rows=rows)
        # Replies end in another order than their prompts are in.
        done = {row["question_id"] for row in Journal(self.folder, "replies").read()}
        batches = plan_replies([each for each in prompts if each[0] not in done], rows)
        results = self.predict(make_module, batches, title=title, journal_name="replies")
        return {name: WrittenReply(**row) for name, row in results.items()}

    def _write_with(
        self,
        engine: Engine,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        rules: ReplyRules,
        title: str,
    ) -> dict[str, WrittenReply]:
        from caft.trainers.progress import open_bar
        from caft.trainers.replies import WrittenReply

        assert not rules.with_spread, "engines round or cap probabilities"
        journal = Journal(self.folder, "engine-replies")
        done = {row["question_id"] for row in journal.read()}
        left = {name: ids for name, ids in prompts if name not in done}
        if done:
            log.info("%s: %d results of an interrupted attempt are kept", title, len(done))
        with open_bar(self.trainer.progress) as bar:
            task = bar.add_task(title, total=len(left))
            for reply in engine.write(left, rules):
                journal.append([WrittenReply(*reply, [], [], [], [])._asdict()])
                bar.advance(task)
        journal.close()
        return {row["question_id"]: WrittenReply(**row) for row in journal.read()}


def _ignore(_message: object) -> None:
    """Predicting processes report through their journals."""

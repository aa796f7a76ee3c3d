"""A stage's predictions, batch by batch: on one device or several, resumed after a kill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from caft.errors import count_of
from caft.models.student import Student
from caft.protocols import CausalLM
from caft.records import WrittenReply
from caft.store import Journal
from caft.trainers.config import TrainerConfig

if TYPE_CHECKING:
    from caft.engines.replies import Engine
    from caft.models.reply_rules import ReplyRules
    from caft.trainers.replies import ReplyName
    from caft.trainers.watching import PredictingModule
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
        make_module: Callable[[CausalLM], PredictingModule],
        batches: Sequence[Batch],
        *,
        title: str,
    ) -> dict[str, Row]:
        """Results by question id, those in the journal of an interrupted attempt included."""
        journal = Journal(self.folder, "predictions")
        done = {row["question_id"] for row in journal.read()}
        left = [batch for batch in batches if not done.issuperset(batch.question_ids)]
        self._work(make_module, left, journal, title, len(done))
        results = {row["question_id"]: row for row in journal.read()}
        assert all(name in results for batch in batches for name in batch.question_ids), (
            f"{title}: rows are missing"
        )
        return results

    def _work(
        self,
        make_module: Callable[[CausalLM], PredictingModule],
        left: Sequence[Batch],
        journal: Journal,
        title: str,
        kept: int,
    ) -> None:
        """Predict what is left, into the journal, which has `kept` results."""
        from caft.trainers.distributed import Ranks
        from caft.trainers.progress import StageBar, open_bar
        from caft.trainers.sharing import count_shares, share
        from caft.trainers.worker import PredictionSpec, predict_share

        _tell_kept(title, kept)
        if left:
            spec = PredictionSpec(self.student, make_module, tuple(left), journal, self.trainer)
            count = count_shares(self.trainer, len(left))
            # With several processes the first one's share stands for all.
            own = sum(len(batch.question_ids) for batch in left[Ranks(count=count).share])
            with open_bar(self.trainer.progress) as bar:
                line = StageBar(bar, title, own)
                share(predict_share, spec, count, line.show, self.student.device)
            journal.close()

    def write(
        self,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        rules: ReplyRules,
        *,
        rows: int,
        title: str,
        engine: Engine | None = None,
    ) -> dict[str, WrittenReply]:
        """A reply by question id, `rows` of them written at once.

        An `engine` writes them in our place, as many at once as it sees fit; it knows no spread.
        """
        if engine is not None:
            return self._write_with(engine, prompts, rules, title)
        replies = self.write_samples(prompts, rules, count=1, rows=rows, title=title)
        return {name.question_id: reply for name, reply in replies.items()}

    def write_samples(
        self,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        rules: ReplyRules,
        *,
        count: int,
        rows: int,
        title: str,
    ) -> dict[ReplyName, WrittenReply]:
        """`count` replies a question, by question id and number; those in the journal included."""
        from caft.trainers.replies import ReplyModule, ReplyName, plan_replies

        asked = {ReplyName(name, k): ids for name, ids in prompts for k in range(count)}
        tokenizer, journal = self.student.tokenizer, Journal(self.folder, "replies")
        make_module = partial(ReplyModule, tokenizer=tokenizer, rules=rules, rows=rows)
        # Replies end in another order than their prompts are in.
        done = _read_replies(journal.read())
        left = plan_replies([each for each in asked.items() if each[0] not in done], rows)
        self._work(make_module, left, journal, title, len(done))
        replies = _read_replies(journal.read())
        assert asked.keys() <= replies.keys(), f"{title}: rows are missing"
        return replies

    def _write_with(
        self,
        engine: Engine,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        rules: ReplyRules,
        title: str,
    ) -> dict[str, WrittenReply]:
        from caft.trainers.progress import Pace, StageBar, open_bar

        assert not rules.with_spread, "engines round or cap probabilities"
        journal = Journal(self.folder, "engine-replies")
        done = {row["question_id"] for row in journal.read()}
        left = {name: ids for name, ids in prompts if name not in done}
        _tell_kept(title, len(done))
        with open_bar(self.trainer.progress) as bar:
            pace = Pace(StageBar(bar, title, len(left)).show)
            for reply in engine.write(left, rules):
                journal.append([reply._asdict()])
                pace.finish(1)
        journal.close()
        return {row["question_id"]: WrittenReply(**row) for row in journal.read()}


def _tell_kept(title: str, count: int) -> None:
    if count:
        verb = "is" if count == 1 else "are"
        results = count_of(count, "result")
        log.info("%s: %s of an interrupted attempt %s kept", title, results, verb)


def _read_replies(rows: Iterable[Row]) -> dict[ReplyName, WrittenReply]:
    from caft.trainers.replies import ReplyName

    replies = [WrittenReply(**row) for row in rows]
    return {ReplyName(reply.question_id, reply.sample): reply for reply in replies}

"""A model's written replies to a list of questions, as a stage of the store."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from caft.evaluate.predictions import read_reply
from caft.records import Prediction
from caft.store import StageKind, Tokens, read_table, source_digest, write_table
from caft.text.prompts import Wanted
from caft.trainers.asked import AskedStudent
from caft.trainers.predicting import Predictor
from caft.trainers.sources import PREDICTING_SOURCES

log = logging.getLogger(__name__)
SOURCES = ("evaluate", *PREDICTING_SOURCES)
_TABLE = "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class ReplyInputs(AskedStudent):
    """Greedy replies to every question. `wanted` is a rationale, or the bracketed answer."""

    wanted: Wanted
    max_new_tokens: int
    batch_size: int
    title: str = "replies"

    kind: ClassVar[StageKind] = StageKind.evaluate

    @property
    def key(self) -> dict[str, object]:
        """For the store; greedy replies draw on no seed."""
        return {
            **self.asked_key,
            "wanted": self.wanted,
            "max_new_tokens": self.max_new_tokens,
            "batch_size": self.batch_size,
            "sources": source_digest(*SOURCES),
        }

    @cached_property
    def prompts(self) -> list[tuple[str, tuple[int, ...]]]:
        """Question ids and prompt tokens, in the order of the questions."""
        return self.encode(self.wanted)

    def check(self) -> None:
        """UserError if a prompt leaves no tokens for a reply; loads no model."""
        lengths = {name: len(ids) for name, ids in self.prompts}
        self.student.refuse_long_prompts(lengths, self.max_new_tokens)

    def produce(self, folder: Path) -> Tokens:
        """Write the replies."""
        from caft.models.generation import ReplyRules

        self.check()
        log.info("%s: %d questions", self.title, len(self.prompts))
        rules = ReplyRules(
            max_new_tokens=self.max_new_tokens, end_ids=self.student.end_ids(chat=self.chat)
        )
        predictor = Predictor(self.student, self.trainer, folder)
        written = predictor.write(self.prompts, rules, rows=self.batch_size, title=self.title)
        replies = [
            read_reply(question, written[question.id], self.prompt) for question in self.questions
        ]
        write_table(folder / _TABLE, Prediction, replies)
        return Tokens(
            read=sum(len(ids) for _, ids in self.prompts),
            written=sum(reply.generated_tokens for reply in replies),
        )

    @staticmethod
    def read(folder: Path) -> list[Prediction]:
        """The replies, in the order of the questions."""
        return read_table(folder / _TABLE, Prediction)

"""A model's written replies to a list of questions, as a stage of the store."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from caft.engines.open import SOURCES as ENGINE_SOURCES
from caft.engines.replies import Engine
from caft.evaluate.predictions import read_reply
from caft.records import Prediction
from caft.store import StageKind, read_table, source_digest, write_table
from caft.text.prompts import Wanted
from caft.trainers.asked import AskedStudent
from caft.trainers.predicting import Predictor
from caft.trainers.sources import PREDICTING_SOURCES

log = logging.getLogger(__name__)
SOURCES = ("evaluate", *PREDICTING_SOURCES)
_TABLE = "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class ReplyInputs(AskedStudent):
    """Greedy replies to every question. `wanted` is a rationale, or the bracketed answer.

    `engine` writes them, or our own generator if it is None.
    """

    wanted: Wanted
    max_new_tokens: int
    batch_size: int
    title: str = "replies"
    engine: Engine | None = None

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
            **self._engine_key,
        }

    @property
    def _engine_key(self) -> dict[str, object]:
        if self.engine is None:
            return {}
        return {"engine": self.engine.key, "engine_sources": source_digest(*ENGINE_SOURCES)}

    @cached_property
    def prompts(self) -> list[tuple[str, tuple[int, ...]]]:
        """Question ids and prompt tokens, in the order of the questions."""
        return self.encode(self.wanted)

    def check(self) -> None:
        """UserError if a prompt leaves no tokens for a reply, or an engine has another model.

        Loads no model.
        """
        lengths = {name: len(ids) for name, ids in self.prompts}
        self.student.refuse_long_prompts(lengths, self.max_new_tokens)
        if self.engine is not None and self.prompts:
            self.engine.check(self.prompts[0][1])

    def produce(self, folder: Path) -> None:
        """Write the replies."""
        self.check()
        write_table(folder / _TABLE, Prediction, write_replies(self, folder))

    @staticmethod
    def read(folder: Path) -> list[Prediction]:
        """The replies, in the order of the questions."""
        return read_table(folder / _TABLE, Prediction)


def write_replies(asked: ReplyInputs, folder: Path) -> list[Prediction]:
    """Write the replies, kept in `folder` one by one, and read their answers."""
    from caft.models.generation import ReplyRules

    log.info("%s: %d questions", asked.title, len(asked.prompts))
    rules = ReplyRules(
        max_new_tokens=asked.max_new_tokens, end_ids=asked.student.end_ids(chat=asked.chat)
    )
    written = Predictor(asked.student, asked.trainer, folder).write(
        asked.prompts, rules, rows=asked.batch_size, title=asked.title, engine=asked.engine
    )
    return [
        read_reply(question, written[question.id], asked.prompt) for question in asked.questions
    ]

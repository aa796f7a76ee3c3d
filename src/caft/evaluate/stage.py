"""A model's written replies to a list of questions, as a stage of the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from caft.models.student import Student
from caft.records import Prediction, Question
from caft.store import StageKind, digest, read_table, source_digest, write_table
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted
from caft.trainers.config import TrainerConfig
from caft.trainers.predicting import JOURNALS, Predictor
from caft.trainers.sources import PREDICTING_SOURCES

log = logging.getLogger(__name__)
SOURCES = ("evaluate", *PREDICTING_SOURCES)
_TABLE = "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class ReplyInputs:
    """Greedy replies to every question. `wanted` is a rationale, or the bracketed answer."""

    student: Student
    questions: Sequence[Question]
    shots: Sequence[Question]
    prompt: PromptConfig
    wanted: Wanted
    max_new_tokens: int
    batch_size: int
    trainer: TrainerConfig
    title: str = "replies"

    kind: ClassVar[StageKind] = StageKind.evaluate
    resumable: ClassVar[bool] = True
    scratch: ClassVar[Sequence[str]] = JOURNALS

    @property
    def key(self) -> dict[str, object]:
        """For the store; greedy replies draw on no seed."""
        return {
            "student": self.student.key,
            "questions": digest(self.questions),
            "shots": digest(self.shots),
            "prompt": self.prompt,
            "wanted": self.wanted,
            "max_new_tokens": self.max_new_tokens,
            "batch_size": self.batch_size,
            "sources": source_digest(*SOURCES),
        }

    @cached_property
    def prompts(self) -> list[tuple[str, tuple[int, ...]]]:
        """Question ids and prompt tokens, in the order of the questions."""
        from caft.models.encoding import encode_prompt, uses_chat_template
        from caft.text.prompts import write_prompt

        tokenizer = self.student.tokenizer
        chat = uses_chat_template(self.prompt.style, tokenizer)
        prompts = (
            write_prompt(question, self.prompt, self.wanted, chat=chat, shots=self.shots)
            for question in self.questions
        )
        return [
            (question.id, encode_prompt(prompt, tokenizer))
            for question, prompt in zip(self.questions, prompts, strict=True)
        ]

    def check(self) -> None:
        """UserError if a prompt leaves no tokens for a reply; loads no model."""
        lengths = {name: len(ids) for name, ids in self.prompts}
        self.student.refuse_long_prompts(lengths, self.max_new_tokens)

    def produce(self, folder: Path) -> None:
        """Write the replies."""
        from caft.evaluate.predictions import read_reply
        from caft.models.encoding import uses_chat_template
        from caft.trainers.replies import ReplyConfig

        self.check()
        log.info("%s: %d questions", self.title, len(self.prompts))
        chat = uses_chat_template(self.prompt.style, self.student.tokenizer)
        config = ReplyConfig(
            max_new_tokens=self.max_new_tokens, end_ids=self.student.end_ids(chat=chat)
        )
        predictor = Predictor(self.student, self.trainer, folder)
        written = predictor.write(self.prompts, self.batch_size, config, title=self.title)
        replies = [
            read_reply(question, written[question.id], self.prompt) for question in self.questions
        ]
        write_table(folder / _TABLE, Prediction, replies)

    @staticmethod
    def read(folder: Path) -> list[Prediction]:
        """The replies, in the order of the questions."""
        return read_table(folder / _TABLE, Prediction)

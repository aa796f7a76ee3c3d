"""Lets a student write to a list of questions, or takes its replies from the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caft.models.student import Student
from caft.records import Prediction, Question
from caft.store import Artifact, Store, digest, read_table, source_digest, write_table
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted
from caft.trainers.config import TrainerConfig
from caft.trainers.predicting import JOURNALS, Predictor
from caft.trainers.sources import PREDICTING_SOURCES

log = logging.getLogger(__name__)
SOURCES = ("evaluate", *PREDICTING_SOURCES)
_TABLE = "predictions.parquet"


@dataclass(frozen=True, slots=True)
class ReplyInputs:
    """Everything a table of written replies depends on.

    `wanted` is a rationale, or the paper's bracketed answer.
    """

    student: Student
    questions: Sequence[Question]
    shots: Sequence[Question]
    prompt: PromptConfig
    wanted: Wanted
    max_new_tokens: int
    batch_size: int

    @property
    def key(self) -> dict[str, Any]:
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


def find_predictions(writing: ReplyInputs, store: Store) -> Artifact | None:
    """The replies, where they have been written before."""
    return store.find("evaluate", writing.key)


def read_predictions(artifact: Artifact) -> list[Prediction]:
    """The table that a student wrote, in the order of its questions."""
    return read_table(artifact.folder / _TABLE, Prediction)


def write_predictions(
    writing: ReplyInputs, store: Store, trainer: TrainerConfig, title: str
) -> Artifact:
    """Greedy replies to every question, or none where the store has them."""

    def produce(folder: Path) -> None:
        predictor = Predictor(writing.student, trainer, folder)
        write_table(folder / _TABLE, Prediction, _write(writing, predictor, title))

    return store.obtain("evaluate", writing.key, produce, resumable=True, scratch=JOURNALS)


def _write(writing: ReplyInputs, predictor: Predictor, title: str) -> list[Prediction]:
    from caft.evaluate.predictions import read_reply
    from caft.models.encoding import uses_chat_template
    from caft.trainers.replies import ReplyConfig

    tokenizer = writing.student.tokenizer
    chat = uses_chat_template(writing.prompt.style, tokenizer)
    prompts = encode_prompts(writing)
    writing.student.refuse_long_prompts(
        {name: len(ids) for name, ids in prompts}, writing.max_new_tokens
    )
    log.info("%s: %d questions", title, len(prompts))
    config = ReplyConfig(
        max_new_tokens=writing.max_new_tokens, end_ids=writing.student.end_ids(chat=chat)
    )
    written = predictor.write(prompts, writing.batch_size, config, title=title)
    return [
        read_reply(question, written[question.id], writing.prompt) for question in writing.questions
    ]


def encode_prompts(writing: ReplyInputs) -> list[tuple[str, tuple[int, ...]]]:
    """Question ids and prompt tokens, in the order of the questions."""
    from caft.models.encoding import encode_prompt, uses_chat_template
    from caft.text.prompts import write_prompt

    chat = uses_chat_template(writing.prompt.style, writing.student.tokenizer)
    return [
        (
            question.id,
            encode_prompt(
                write_prompt(
                    question, writing.prompt, writing.wanted, chat=chat, shots=writing.shots
                ),
                writing.student.tokenizer,
            ),
        )
        for question in writing.questions
    ]

"""Scores a list of questions with a student, or takes the scores from the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caft.models.student import Student
from caft.records import AnswerScore, Question
from caft.score.config import ModelScoreConfig
from caft.store import Artifact, Store, digest, read_table, source_digest, write_table
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig

log = logging.getLogger(__name__)
_TABLE = "scores.parquet"


@dataclass(frozen=True, slots=True)
class Scoring:
    """Everything a table of scores depends on. `shots` stand solved before every question."""

    student: Student
    questions: Sequence[Question]
    shots: Sequence[Question]
    prompt: PromptConfig
    config: ModelScoreConfig

    @property
    def key(self) -> dict[str, Any]:
        """For the store; the run's seed is not in it, since nothing here is drawn."""
        return {
            "student": self.student.key,
            "questions": digest(self.questions),
            "shots": digest(self.shots),
            "prompt": self.prompt,
            "free_answer_tokens": self.config.free_answer_tokens,
            "sources": source_digest("score", "models", "text"),
        }


def find_scores(scoring: Scoring, store: Store) -> Artifact | None:
    """The scores, where they have been made before."""
    return store.find("score", scoring.key)


def read_scores(artifact: Artifact) -> list[AnswerScore]:
    """The table that a scoring left, in the order of its questions."""
    return read_table(artifact.folder / _TABLE, AnswerScore)


def score_questions(scoring: Scoring, store: Store, trainer: TrainerConfig) -> Artifact:
    """One forward pass a question, or none where the store has the scores."""

    def produce(folder: Path) -> None:
        write_table(folder / _TABLE, AnswerScore, _score(scoring, trainer, folder))

    return store.obtain("score", scoring.key, produce)


def _score(scoring: Scoring, trainer_config: TrainerConfig, folder: Path) -> list[AnswerScore]:
    from caft.score.module import NextToken, ScoringModule, ScoringPack, plan_scoring
    from caft.score.prepare import prepare_rows
    from caft.score.read import read_answers
    from caft.trainers.build import build_trainer
    from caft.trainers.progress import CountingProgress

    tokenizer = scoring.student.tokenizer
    rows = prepare_rows(scoring.questions, scoring.prompt, tokenizer, scoring.shots)
    scoring.student.refuse_long_prompts(
        {row.question_id: len(row.prompt_ids) for row in rows}, reply_tokens=1
    )
    prefix_ids, packs = plan_scoring(rows, scoring.config.batch_tokens)
    log.info(
        "scoring %d questions in %d forward passes (shared prefix: %d tokens)",
        len(rows),
        len(packs),
        len(prefix_ids),
    )

    def rows_in(batch: ScoringPack) -> int:
        return len(batch.rows)

    bar = CountingProgress("scoring", len(rows), rows_in, shown=trainer_config.progress)
    trainer = build_trainer(trainer_config, folder=folder, callbacks=[bar])
    module = ScoringModule(scoring.student.load(), prefix_ids)
    batches = trainer.predict(module, _loader(packs))
    said: dict[str, NextToken] = {item.question_id: item for batch in batches for item in batch}
    # Lightning takes the model off its device when it is done; free text is still to be written.
    module.model.to(scoring.student.device)
    return read_answers(rows, said, module.model, tokenizer, scoring.config.free_answer_tokens)


def _loader(packs: list[Any]) -> Any:
    from torch.utils.data import DataLoader

    # A list has all that a data set of torch needs, but not its type.
    dataset: Any = packs
    return DataLoader(dataset, batch_size=None, shuffle=False)

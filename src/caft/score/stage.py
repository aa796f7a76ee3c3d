"""Scores a list of questions with a student, or takes the scores from the store.

Also the student's own chains of thought, and a judge's replies. Whatever is computed or bought
is kept as it comes: an interrupted stage goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caft.models.student import Student
from caft.records import AnswerScore, Chain, Judgement, Question
from caft.score.config import ChainConfig, ModelScoreConfig
from caft.store import (
    Artifact,
    Store,
    digest,
    read_table,
    source_digest,
    write_table,
)
from caft.teachers.ask import ask_all
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.progress import Watcher
from caft.teachers.replies import Request, TeacherReply
from caft.text.config import PromptConfig
from caft.text.judging import read_judgement, write_judge_prompt
from caft.text.prompts import Prompt, Wanted, write_prompt
from caft.text.thinking import opens_thinking
from caft.trainers.config import TrainerConfig
from caft.trainers.predicting import JOURNALS, Predictor
from caft.trainers.sources import PREDICTING_SOURCES

if TYPE_CHECKING:
    from caft.score.prepare import ScoringRow
    from caft.trainers.replies import WrittenReply

log = logging.getLogger(__name__)
SOURCES = ("score", *PREDICTING_SOURCES)
_SCORES, _CHAINS, _JUDGEMENTS = "scores.parquet", "chains.parquet", "judgements.parquet"
_FREE_TEXT_BATCH = 32


@dataclass(frozen=True, slots=True)
class ScoreInputs:
    """Everything a table of scores depends on. `shots` stand solved before every question.

    `wanted` is the bare answer, or a fallback prompt's.
    """

    student: Student
    questions: Sequence[Question]
    shots: Sequence[Question]
    prompt: PromptConfig
    config: ModelScoreConfig
    wanted: Wanted = Wanted.answer

    @property
    def key(self) -> dict[str, Any]:
        """For the store; the run's seed is not in it, since nothing here is drawn."""
        return {
            "student": self.student.key,
            "questions": digest(self.questions),
            "shots": digest(self.shots),
            "prompt": self.prompt,
            "wanted": self.wanted,
            "free_answer_tokens": self.config.free_answer_tokens,
            "sources": source_digest(*SOURCES),
        }


def find_scores(scoring: ScoreInputs, store: Store) -> Artifact | None:
    """The scores, where they have been made before."""
    return store.find("score", scoring.key)


def read_scores(artifact: Artifact) -> list[AnswerScore]:
    """The table that a scoring left, in the order of its questions."""
    return read_table(artifact.folder / _SCORES, AnswerScore)


def score_questions(scoring: ScoreInputs, store: Store, trainer: TrainerConfig) -> Artifact:
    """One forward pass a question, or none where the store has the scores."""

    def produce(folder: Path) -> None:
        predictor = Predictor(scoring.student, trainer, folder)
        write_table(folder / _SCORES, AnswerScore, _score(scoring, predictor))

    return store.obtain("score", scoring.key, produce, resumable=True, scratch=JOURNALS)


def encode_questions(scoring: ScoreInputs) -> list[ScoringRow]:
    """The rows that a scoring sends, in the order of its questions.

    UserError for an answer label of several tokens and a template that refuses the turns.
    """
    from caft.score.prepare import prepare_rows

    return prepare_rows(
        scoring.questions, scoring.prompt, scoring.student.tokenizer, scoring.shots, scoring.wanted
    )


def refuse_unfit_rows(scoring: ScoreInputs) -> tuple[list[ScoringRow], list[ScoringRow]]:
    """All rows, and those whose free-text answers are written out; before any model loads.

    UserError for what `encode_questions` refuses, and a prompt that leaves no room.
    """
    rows = encode_questions(scoring)
    free = [row for row in rows if not row.labels]
    scoring.student.refuse_long_prompts(
        {row.question_id: len(row.prompt_ids) for row in rows},
        reply_tokens=scoring.config.free_answer_tokens if free else 1,
    )
    return rows, free


def _score(scoring: ScoreInputs, predictor: Predictor) -> list[AnswerScore]:
    from caft.score.module import NextToken, ScoringModule, plan_scoring
    from caft.score.read import read_answers

    rows, free = refuse_unfit_rows(scoring)
    tokens = scoring.config.tokens_a_pass(scoring.student.device)
    prefix_ids, packs = plan_scoring(rows, tokens)
    log.info(
        "scoring %d questions in %d forward passes of %s (shared prefix: %d tokens)",
        len(rows),
        len(packs),
        scoring.student.dtype,
        len(prefix_ids),
    )
    make_module = partial(ScoringModule, prefix_ids=prefix_ids)
    results = predictor.predict(make_module, packs, title="scoring")
    said = {
        name: NextToken(**{**row, "label_log_p": tuple(row["label_log_p"])})
        for name, row in results.items()
    }
    written = _write_free_answers(
        scoring, [(row.question_id, row.prompt_ids) for row in free], predictor
    )
    return read_answers(rows, said, written, scoring.student.tokenizer)


def _write_free_answers(
    scoring: ScoreInputs, prompts: Sequence[tuple[str, tuple[int, ...]]], predictor: Predictor
) -> dict[str, WrittenReply]:
    from caft.models.chat_template import has_working_template
    from caft.score.read import without_end
    from caft.trainers.replies import ReplyConfig

    # A completion may end like a text or, where the model knows turns, like a turn.
    ends = scoring.student.end_ids(chat=has_working_template(scoring.student.tokenizer))
    reply = ReplyConfig(
        max_new_tokens=scoring.config.free_answer_tokens,
        end_ids=ends,
        stop_after_marker=False,
        with_spread=True,
    )
    replies = predictor.write(prompts, _FREE_TEXT_BATCH, reply, title="answers")
    return {name: without_end(reply, ends) for name, reply in replies.items()}


# Chains of thought


@dataclass(frozen=True, slots=True)
class CotInputs:
    """Everything a table of the student's own chains of thought depends on."""

    student: Student
    questions: Sequence[Question]
    shots: Sequence[Question]
    prompt: PromptConfig
    config: ChainConfig

    @property
    def key(self) -> dict[str, Any]:
        """For the store; greedy replies draw on no seed."""
        return {
            "student": self.student.key,
            "questions": digest(self.questions),
            "shots": digest(self.shots),
            "prompt": self.prompt,
            "config": self.config,
            "sources": source_digest(*SOURCES),
        }


def find_chains(chaining: CotInputs, store: Store) -> Artifact | None:
    """The chains, where they have been written before."""
    return store.find("chain", chaining.key)


def read_chains(artifact: Artifact) -> list[Chain]:
    """The table of chains, in the order of its questions."""
    return read_table(artifact.folder / _CHAINS, Chain)


def write_chains(chaining: CotInputs, store: Store, trainer: TrainerConfig) -> Artifact:
    """The student's own greedy chain of thought for every question, with its entropies."""

    def produce(folder: Path) -> None:
        predictor = Predictor(chaining.student, trainer, folder)
        write_table(folder / _CHAINS, Chain, _write_chains(chaining, predictor))

    return store.obtain("chain", chaining.key, produce, resumable=True, scratch=JOURNALS)


def _write_chains(chaining: CotInputs, predictor: Predictor) -> list[Chain]:
    from caft.models.encoding import uses_chat_template
    from caft.score.read import read_chain, without_end
    from caft.trainers.replies import ReplyConfig

    tokenizer, config = chaining.student.tokenizer, chaining.config
    prompts = refuse_long_chains(chaining)
    # Some templates open the span whatever they are told.
    opened = {name: opens_thinking(tokenizer.decode(ids)) for name, ids in prompts}
    chat = uses_chat_template(chaining.prompt.style, tokenizer)
    log.info("writing %d chains of thought", len(prompts))
    ends = chaining.student.end_ids(chat=chat)
    reply = ReplyConfig(
        max_new_tokens=config.max_new_tokens,
        end_ids=ends,
        # What looks like an answer inside a thinking span ends nothing.
        stop_after_marker=not (config.thinking or any(opened.values())),
        with_spread=True,
    )
    written = predictor.write(prompts, config.batch_size, reply, title="chains")
    return [
        read_chain(
            question,
            without_end(written[question.id], ends),
            chaining.prompt,
            tokenizer,
            opened=opened[question.id],
        )
        for question in chaining.questions
    ]


def refuse_long_chains(chaining: CotInputs) -> list[tuple[str, tuple[int, ...]]]:
    """Question ids and prompt tokens, in order; UserError where one leaves no room for a chain."""
    from caft.models.encoding import encode_prompt, uses_chat_template

    tokenizer, config = chaining.student.tokenizer, chaining.config
    chat = uses_chat_template(chaining.prompt.style, tokenizer)
    prompts = [
        write_prompt(question, chaining.prompt, Wanted.rationale, chat=chat, shots=chaining.shots)
        for question in chaining.questions
    ]
    encoded = [
        # A span that the template opens unasked is a chain of thought as good as any.
        (question.id, encode_prompt(prompt, tokenizer, thinking=config.thinking, closed=False))
        for question, prompt in zip(chaining.questions, prompts, strict=True)
    ]
    chaining.student.refuse_long_prompts(
        {name: len(ids) for name, ids in encoded}, config.max_new_tokens
    )
    return encoded


# A judge


def ask_judge(
    questions: Sequence[Question],
    estimators: Sequence[str],
    *,
    prompt: PromptConfig,
    judge: OpenAITeacherConfig,
    ledger_path: Path,
    progress: Watcher | None = None,
) -> list[Judgement]:
    """A judgement of every question for every estimator; what the ledger has costs nothing.

    UserError where the user must act, with every reply kept (see `caft.teachers`).
    """
    asked = [(name, question) for name in estimators for question in questions]
    prompts = judge_prompts(questions, estimators, prompt)
    requests = [
        Request(tuple((turn.role, turn.content) for turn in each.messages)) for each in prompts
    ]
    replies = ask_all(requests, judge, ledger_path, progress)
    return [
        _read_judgement(name, question, reply)
        for (name, question), reply in zip(asked, replies, strict=True)
    ]


def judge_prompts(
    questions: Sequence[Question], estimators: Sequence[str], prompt: PromptConfig
) -> list[Prompt]:
    """What the judge is asked: estimator by estimator, question by question."""
    return [
        write_judge_prompt(question, prompt, name) for name in estimators for question in questions
    ]


def _read_judgement(estimator: str, question: Question, reply: TeacherReply) -> Judgement:
    return Judgement(
        question_id=question.id,
        estimator=estimator,
        value=None if reply.failure else read_judgement(reply.text, estimator),
        text=reply.failure or reply.text,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        usd=reply.usd,
    )


def keep_judgements(judgements: Sequence[Judgement], store: Store) -> Artifact:
    """The store's copy; the ledger keeps what was paid for."""
    return store.obtain(
        "judge",
        {"judgements": digest(judgements)},
        lambda folder: write_table(folder / _JUDGEMENTS, Judgement, judgements),
    )

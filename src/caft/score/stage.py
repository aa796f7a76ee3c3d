"""Scores a list of questions with a student, or takes the scores from the store.

Also the student's own chains of thought, and a judge's replies. Whatever is computed or bought
is kept as it comes: an interrupted stage goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caft.models.student import Student
from caft.records import AnswerScore, Chain, Judgement, Question
from caft.score.config import ChainConfig, ModelScoreConfig
from caft.store import (
    Artifact,
    Journal,
    Store,
    digest,
    read_table,
    source_digest,
    write_table,
)
from caft.teachers.ask import ask_all
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.progress import Watcher
from caft.teachers.replies import Reply, Request
from caft.text.config import PromptConfig
from caft.text.judging import read_judgement, write_judge_prompt
from caft.text.prompts import Prompt, Wanted, write_prompt
from caft.trainers.config import TrainerConfig

if TYPE_CHECKING:
    from caft.score.prepare import ScoringRow

log = logging.getLogger(__name__)
_SCORES, _CHAINS, _JUDGEMENTS = "scores.parquet", "chains.parquet", "judgements.parquet"
_FREE_TEXT_BATCH = 32


@dataclass(frozen=True, slots=True)
class Scoring:
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
            "sources": source_digest("score", "models", "text"),
        }


def find_scores(scoring: Scoring, store: Store) -> Artifact | None:
    """The scores, where they have been made before."""
    return store.find("score", scoring.key)


def read_scores(artifact: Artifact) -> list[AnswerScore]:
    """The table that a scoring left, in the order of its questions."""
    return read_table(artifact.folder / _SCORES, AnswerScore)


def score_questions(scoring: Scoring, store: Store, trainer: TrainerConfig) -> Artifact:
    """One forward pass a question, or none where the store has the scores."""

    def produce(folder: Path) -> None:
        work = Work(scoring.student, trainer, folder)
        write_table(folder / _SCORES, AnswerScore, _score(scoring, work))
        work.forget()

    return store.obtain("score", scoring.key, produce, resumable=True)


def refuse_unfit_rows(scoring: Scoring) -> tuple[list[ScoringRow], list[ScoringRow]]:
    """All rows, and those whose free-text answers are written out; before any model loads.

    UserError for an answer label of several tokens, a template that refuses the turns, a prompt
    that leaves no room.
    """
    from caft.score.prepare import prepare_rows

    rows = prepare_rows(
        scoring.questions, scoring.prompt, scoring.student.tokenizer, scoring.shots, scoring.wanted
    )
    # Not for the fallback: only its entropy is wanted.
    free = [row for row in rows if not row.labels and not scoring.wanted.may_decline]
    scoring.student.refuse_long_prompts(
        {row.question_id: len(row.prompt_ids) for row in rows},
        reply_tokens=scoring.config.free_answer_tokens if free else 1,
    )
    return rows, free


def _score(scoring: Scoring, work: Work) -> list[AnswerScore]:
    from caft.score.module import NextToken, ScoringModule, plan_scoring
    from caft.score.read import read_answers

    rows, free = refuse_unfit_rows(scoring)
    prefix_ids, packs = plan_scoring(rows, scoring.config.batch_tokens)
    log.info(
        "scoring %d questions in %d forward passes of %s (shared prefix: %d tokens)",
        len(rows),
        len(packs),
        scoring.student.dtype,
        len(prefix_ids),
    )
    batches = [(tuple(row.question_id for row in pack.rows), pack) for pack in packs]
    results = work.predict("scoring", partial(ScoringModule, prefix_ids=prefix_ids), batches)
    said = {
        name: NextToken(**{**row, "label_log_p": tuple(row["label_log_p"])})
        for name, row in results.items()
    }
    written = _write_free_answers(
        scoring, [(row.question_id, row.prompt_ids) for row in free], work
    )
    return read_answers(rows, said, written, scoring.student.tokenizer)


def _write_free_answers(
    scoring: Scoring, prompts: Sequence[tuple[str, tuple[int, ...]]], work: Work
) -> dict[str, Any]:
    from caft.models.encoding import end_of_turn

    tokenizer = scoring.student.tokenizer
    # A completion may end like a text or, where the model knows turns, like a turn.
    styles = {False, bool(tokenizer.chat_template)}
    ends = sorted({end_of_turn(tokenizer, chat=chat) for chat in styles})
    return work.write(
        "answers",
        prompts,
        _FREE_TEXT_BATCH,
        max_new_tokens=scoring.config.free_answer_tokens,
        end_ids=ends,
        stop_after_marker=False,
    )


# Chains of thought


@dataclass(frozen=True, slots=True)
class Chaining:
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
            "sources": source_digest("score", "models", "text"),
        }


def find_chains(chaining: Chaining, store: Store) -> Artifact | None:
    """The chains, where they have been written before."""
    return store.find("chain", chaining.key)


def read_chains(artifact: Artifact) -> list[Chain]:
    """The table of chains, in the order of its questions."""
    return read_table(artifact.folder / _CHAINS, Chain)


def write_chains(chaining: Chaining, store: Store, trainer: TrainerConfig) -> Artifact:
    """The student's own greedy chain of thought for every question, with its entropies."""

    def produce(folder: Path) -> None:
        work = Work(chaining.student, trainer, folder)
        write_table(folder / _CHAINS, Chain, _write_chains(chaining, work))
        work.forget()

    return store.obtain("chain", chaining.key, produce, resumable=True)


def _write_chains(chaining: Chaining, work: Work) -> list[Chain]:
    from caft.models.encoding import asks_in_chat, end_of_turn
    from caft.score.read import read_chain

    tokenizer, config = chaining.student.tokenizer, chaining.config
    prompts = refuse_long_chains(chaining)
    chat = asks_in_chat(chaining.prompt.style, tokenizer)
    log.info("writing %d chains of thought", len(prompts))
    written = work.write(
        "chains",
        prompts,
        config.batch_size,
        max_new_tokens=config.max_new_tokens,
        end_ids=sorted({end_of_turn(tokenizer, chat=kind) for kind in (chat, False)}),
        # What looks like an answer inside a thinking span ends nothing.
        stop_after_marker=not config.thinking,
    )
    return [
        read_chain(question, written[question.id], chaining.prompt, tokenizer)
        for question in chaining.questions
    ]


def refuse_long_chains(chaining: Chaining) -> list[tuple[str, tuple[int, ...]]]:
    """Question ids and prompt tokens, in order; UserError where one leaves no room for a chain."""
    from caft.models.encoding import asks_in_chat, encode_prompt

    tokenizer, config = chaining.student.tokenizer, chaining.config
    chat = asks_in_chat(chaining.prompt.style, tokenizer)
    prompts = [
        write_prompt(question, chaining.prompt, Wanted.rationale, chat=chat, shots=chaining.shots)
        for question in chaining.questions
    ]
    encoded = [
        (question.id, encode_prompt(prompt, tokenizer, thinking=config.thinking))
        for question, prompt in zip(chaining.questions, prompts, strict=True)
    ]
    chaining.student.refuse_long_prompts(
        {name: len(ids) for name, ids in encoded}, config.max_new_tokens
    )
    return encoded


# The work itself, on one device or several


class Work:
    """One stage's predictions, kept in its unfinished folder until it is finished."""

    def __init__(self, student: Student, trainer: TrainerConfig, folder: Path) -> None:
        self.student, self.trainer, self.folder = student, trainer, folder
        self._journals: list[Journal] = []

    def predict(
        self,
        title: str,
        make_module: Callable[[Any], Any],
        batches: Sequence[tuple[Sequence[str], Any]],
    ) -> dict[str, dict[str, Any]]:
        """Results by question id, of batches that come with the ids of their questions.

        Batches whose questions are all in the journal of an interrupted attempt are not run.
        """
        journal = self._open(title)
        done = {row["question_id"] for row in journal.read()}
        open_batches = [(ids, batch) for ids, batch in batches if not done.issuperset(ids)]
        if done:
            log.info("%s: %d results of an interrupted attempt are taken over", title, len(done))
        if open_batches:
            self._run(title, make_module, [batch for _, batch in open_batches], journal)
        results = {row["question_id"]: row for row in journal.read()}
        assert all(name in results for ids, _ in batches for name in ids), (
            f"{title}: rows are missing"
        )
        return results

    def write(
        self,
        title: str,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        batch_size: int,
        *,
        max_new_tokens: int,
        end_ids: Sequence[int],
        stop_after_marker: bool,
    ) -> dict[str, Any]:
        """Greedy replies by question id, their end tokens left out."""
        from caft.score.module import ReplyModule, WrittenReply, plan_replies
        from caft.score.read import without_end

        batches = [(batch.question_ids, batch) for batch in plan_replies(prompts, batch_size)]

        make_module = partial(
            ReplyModule,
            tokenizer=self.student.tokenizer,
            max_new_tokens=max_new_tokens,
            end_ids=end_ids,
            stop_after_marker=stop_after_marker,
        )
        results = self.predict(title, make_module, batches)
        return {name: without_end(WrittenReply(**row), end_ids) for name, row in results.items()}

    def forget(self) -> None:
        """The stage's table holds everything: its journals are in the way now."""
        for journal in self._journals:
            journal.remove()

    def _run(
        self,
        title: str,
        make_module: Callable[[Any], Any],
        batches: Sequence[Any],
        journal: Journal,
    ) -> None:
        from caft.score.module import Predicting, predict_share
        from caft.trainers.ranks import Ranks, run_ranks

        job = Predicting(title, self.student, make_module, tuple(batches), journal, self.trainer)
        count = min(self.trainer.devices, len(batches))
        if count == 1:
            predict_share(Ranks(), _hear_nothing, job)
        else:
            run_ranks(predict_share, (job,), count, _hear_nothing)

    def _open(self, title: str) -> Journal:
        journal = Journal(self.folder, title)
        self._journals.append(journal)
        return journal


def _hear_nothing(_message: Any) -> None:
    """Processes that predict tell their journals everything."""


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


def _read_judgement(estimator: str, question: Question, reply: Reply) -> Judgement:
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

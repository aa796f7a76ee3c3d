"""Asks the base model, and a judge, before the split; each as a stage of the store.

Every result is kept as soon as it exists: an interrupted stage resumes where it stopped.
"""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from caft.errors import count_of
from caft.models.chat_template import has_working_template
from caft.models.sampling import GREEDY, Sampling
from caft.models.sources.folder import read_settings
from caft.models.thinking_span import ends_open, refuse_thinking
from caft.records import AnswerScore, Chain, Judgement, Question, SampledReply, WrittenReply
from caft.score.config import ChainConfig, ModelScoreConfig
from caft.score.prepare import ScoringRow, prepare_rows
from caft.store import (
    StageKind,
    Tokens,
    read_rows,
    read_table,
    source_digest,
    write_rows,
    write_table,
)
from caft.teachers.ask import ask_all
from caft.teachers.config import EndpointConfig
from caft.teachers.ledger import Place
from caft.teachers.progress import Watcher
from caft.teachers.replies import Request, TeacherReply
from caft.text.config import PromptConfig
from caft.text.judging import read_judgement, write_judge_prompt
from caft.text.prompts import Prompt, Wanted
from caft.trainers.asked import AskedStudent
from caft.trainers.predicting import Predictor
from caft.trainers.sources import PREDICTING_SOURCES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from caft.score.module import NextToken


log = logging.getLogger(__name__)
SOURCES = ("score", *PREDICTING_SOURCES)
_SCORES, _CHAINS, _SAMPLES = "scores.parquet", "chains.parquet", "samples.parquet"
_HIDDEN = "hidden.parquet"
_FREE_ANSWERS_AT_ONCE = 128
_Reply = TypeVar("_Reply", Chain, SampledReply)


@dataclass(frozen=True, kw_only=True)
class ScoreInputs(AskedStudent):
    """One forward pass a question. `wanted` is the bare answer, or a fallback prompt's.

    `keeps_hidden`: the hidden states of the answer positions are kept, for `read_hidden`.
    """

    config: ModelScoreConfig
    wanted: Wanted = Wanted.answer
    keeps_hidden: bool = False
    kind: StageKind = StageKind.score

    @property
    def key(self) -> dict[str, object]:
        """For the store."""
        return {
            **self.asked_key,
            "wanted": self.wanted,
            "free_answer_tokens": self.config.free_answer_tokens,
            "sources": source_digest(*SOURCES),
            # Scores without them are the same as before there were any.
            **({"hidden": True} if self.keeps_hidden else {}),
        }

    @cached_property
    def rows(self) -> list[ScoringRow]:
        """What is sent, in the order of the questions.

        UserError for an answer label of several tokens and a template that refuses the turns.
        """
        return prepare_rows(
            self.questions, self.prompt, self.student.tokenizer, self.shots, self.wanted
        )

    @property
    def free_rows(self) -> list[ScoringRow]:
        """The rows whose free-text answers are written out."""
        return [row for row in self.rows if not row.labels]

    def check(self) -> None:
        """UserError for what `rows` refuses, and for a prompt that is too long; loads no model."""
        most = self.config.free_answer_tokens
        self.student.refuse_long_prompts(
            {row.question_id: len(row.prompt_ids) for row in self.rows},
            reply_tokens=most if self.free_rows else 1,
            settings={"score.free_answer_tokens": most} if self.free_rows else {},
            shots=self.shots_setting,
        )

    def produce(self, folder: Path) -> Tokens:
        """Score the questions."""
        from caft.score.read import read_answers

        self.check()
        predictor = Predictor(self.student, self.trainer, folder)
        predicted = _predict(self, predictor)
        if self.keeps_hidden:
            states = [b64decode(predicted[row.question_id].hidden) for row in self.rows]
            write_rows(folder / _HIDDEN, [{"float16": state} for state in states])
        written = _write_free_answers(self, predictor)
        scores = read_answers(self.rows, self.questions, predicted, written, self.student.tokenizer)
        write_table(folder / _SCORES, AnswerScore, scores)
        # A prompt is read once more for an answer that is written.
        read = sum(len(row.prompt_ids) for row in [*self.rows, *self.free_rows])
        # The run continues for hours, and needs them no more.
        vars(self).pop("rows")
        return Tokens(read=read, written=sum(reply.tokens for reply in written.values()))

    @staticmethod
    def read(folder: Path) -> list[AnswerScore]:
        """The scores, in the order of the questions."""
        return read_table(folder / _SCORES, AnswerScore)

    @staticmethod
    def read_hidden(folder: Path) -> NDArray[np.float16]:
        """The hidden states [questions, width] of a stage that keeps them, in the same order."""
        import numpy as np

        states = [row["float16"] for row in read_rows(folder / _HIDDEN)]
        return np.frombuffer(b"".join(states), np.float16).reshape(len(states), -1)


def _predict(scoring: ScoreInputs, predictor: Predictor) -> dict[str, NextToken]:
    """The forward passes' results, by question id."""
    from caft.kernels.rotary import find_switch
    from caft.score.module import NextToken, ScoringModule, plan_scoring

    rows, student = scoring.rows, scoring.student
    switch = find_switch(read_settings(student.folder / "config.json"))
    prefix_ids, packs = plan_scoring(rows, scoring.config.tokens_a_pass(student.device), switch)
    log.info(
        "scoring %s in %s of %s (shared prefix: %s)",
        count_of(len(rows), "question"),
        count_of(len(packs), "forward pass"),
        student.dtype,
        count_of(len(prefix_ids), "token"),
    )
    make_module = partial(ScoringModule, prefix_ids=prefix_ids, keeps_hidden=scoring.keeps_hidden)
    results = predictor.predict(make_module, packs, title="scoring")
    return {
        name: NextToken(**{**row, "label_log_p": tuple(row["label_log_p"])})
        for name, row in results.items()
    }


def _write_free_answers(scoring: ScoreInputs, predictor: Predictor) -> dict[str, WrittenReply]:
    from caft.models.reply_rules import ReplyRules
    from caft.score.read import without_end

    # A completion may end like a text or, where the template has turns, like a turn.
    ends = scoring.student.end_ids(chat=has_working_template(scoring.student.tokenizer))
    rules = ReplyRules(
        max_new_tokens=scoring.config.free_answer_tokens,
        end_ids=ends,
        stop_after_marker=False,
        stop_after_line=True,
        with_spread=True,
    )
    prompts = [(row.question_id, row.prompt_ids) for row in scoring.free_rows]
    replies = predictor.write(prompts, rules, rows=_FREE_ANSWERS_AT_ONCE, title="answers")
    return {name: without_end(reply, ends) for name, reply in replies.items()}


@dataclass(frozen=True, kw_only=True)
class ChainInputs(AskedStudent):
    """Questions that the student answers by chains of thought."""

    config: ChainConfig

    @property
    def key(self) -> dict[str, object]:
        """For the store."""
        return {**self.asked_key, "config": self.config, "sources": source_digest(*SOURCES)}

    @cached_property
    def prompts(self) -> list[tuple[str, tuple[int, ...]]]:
        """Question ids and prompt tokens, in the order of the questions."""
        # A span that the template opens unasked is a chain of thought as good as any.
        return self.encode(Wanted.rationale, thinking=self.config.thinking, closed=False)

    def check(self) -> None:
        """UserError for thinking that the model lacks, or no tokens left; loads no model."""
        if self.config.thinking:
            refuse_thinking(self.student.tokenizer, "score.chain.thinking", chat=self.chat)
        lengths = {name: len(ids) for name, ids in self.prompts}
        most = self.config.max_new_tokens
        self.student.refuse_long_prompts(lengths, most, {"score.chain.max_new_tokens": most})

    def _write(
        self,
        folder: Path,
        read: Callable[..., _Reply],
        *,
        title: str,
        count: int = 1,
        with_spread: bool = False,
        sampling: Sampling = GREEDY,
    ) -> tuple[list[_Reply], Tokens]:
        """`count` replies a question, in the order of the questions."""
        from caft.models.reply_rules import ReplyRules
        from caft.score.read import without_end
        from caft.trainers.replies import ReplyName

        self.check()
        tokenizer, prompts = self.student.tokenizer, self.prompts
        each = f" for each of {len(prompts)} questions" if count > 1 else ""
        log.info(
            "writing %s of thought%s", count_of(count if each else len(prompts), "chain"), each
        )
        rules = ReplyRules(
            max_new_tokens=self.config.max_new_tokens,
            end_ids=self.student.end_ids(chat=self.chat),
            with_spread=with_spread,
            # What looks like an answer inside a thinking span does not end the reply.
            thinking=self.thinking_rules(),
            sampling=sampling,
        )
        written = Predictor(self.student, self.trainer, folder).write_samples(
            prompts, rules, count=count, rows=self.config.batch_size, title=title
        )
        # Some templates open the span whether they are asked to or not.
        opened = {name: ends_open(tokenizer, ids) for name, ids in prompts}
        replies = [
            read(
                question,
                without_end(written[ReplyName(question.id, number)], rules.end_ids),
                self.prompt,
                tokenizer,
                opened=opened[question.id],
            )
            for question in self.questions
            for number in range(count)
        ]
        vars(self).pop("prompts")
        return replies, Tokens(
            read=count * sum(len(ids) for _, ids in prompts),
            written=sum(reply.generated_tokens for reply in replies),
        )


@dataclass(frozen=True, kw_only=True)
class CotInputs(ChainInputs):
    """The student's own greedy chain of thought for every question, with its entropies."""

    kind: ClassVar[StageKind] = StageKind.chains

    def produce(self, folder: Path) -> Tokens:
        """Write the chains."""
        from caft.score.read import read_chain

        chains, tokens = self._write(folder, read_chain, title="chains", with_spread=True)
        write_table(folder / _CHAINS, Chain, chains)
        return tokens

    @staticmethod
    def read(folder: Path) -> list[Chain]:
        """The chains, in the order of the questions."""
        return read_table(folder / _CHAINS, Chain)


@dataclass(frozen=True, kw_only=True)
class SampleInputs(ChainInputs):
    """`count` drawn chains of thought of the student for every question."""

    count: int
    sampling: Sampling

    kind: ClassVar[StageKind] = StageKind.samples

    @property
    def key(self) -> dict[str, object]:
        """For the store, with the seed that is drawn from."""
        return {**super().key, "count": self.count, "sampling": self.sampling}

    def produce(self, folder: Path) -> Tokens:
        """Write the chains."""
        from caft.score.read import read_sample

        samples, tokens = self._write(
            folder, read_sample, title="sampled chains", count=self.count, sampling=self.sampling
        )
        write_table(folder / _SAMPLES, SampledReply, samples)
        return tokens

    @staticmethod
    def read(folder: Path) -> list[SampledReply]:
        """The replies, in the order of the questions and of their numbers."""
        return read_table(folder / _SAMPLES, SampledReply)


def ask_judge(
    questions: Sequence[Question],
    estimators: Sequence[str],
    *,
    prompt: PromptConfig,
    judge: EndpointConfig,
    ledger_path: Place,
    progress: Watcher | None = None,
) -> list[Judgement]:
    """A judgement of every question for every estimator; what the ledger has costs nothing.

    UserError if the user must act, with every reply kept (see `caft.teachers`).
    """
    asked = [(name, question) for name in estimators for question in questions]
    requests = [Request(each.turns) for each in judge_prompts(questions, estimators, prompt)]
    replies = ask_all(requests, judge, ledger_path, progress)
    return [
        _read_judgement(name, question, reply)
        for (name, question), reply in zip(asked, replies, strict=True)
    ]


def judge_prompts(
    questions: Sequence[Question], estimators: Sequence[str], prompt: PromptConfig
) -> list[Prompt]:
    """The judge's requests: estimator by estimator, question by question."""
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

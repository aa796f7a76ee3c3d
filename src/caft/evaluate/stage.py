"""A model's written replies to a list of questions, as a stage of the store."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from caft.engines.open import SOURCES as ENGINE_SOURCES
from caft.engines.replies import Engine
from caft.errors import count_of
from caft.evaluate.predictions import read_reply
from caft.models.sampling import GREEDY, Sampling
from caft.models.thinking_span import ends_open, refuse_idle_cap, refuse_thinking
from caft.records import Prediction, WrittenReply
from caft.store import StageKind, Tokens, read_table, source_digest, write_table
from caft.text.prompts import Wanted
from caft.trainers.asked import AskedStudent
from caft.trainers.predicting import Predictor
from caft.trainers.sources import PREDICTING_SOURCES

if TYPE_CHECKING:
    from caft.models.reply_rules import ReplyRules

log = logging.getLogger(__name__)
SOURCES = ("evaluate", *PREDICTING_SOURCES)
_TABLE = "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class ReplyInputs(AskedStudent):
    """A reply to every question. `wanted` is a rationale, or the bracketed answer.

    Only for a rationale may the model be asked for `thinking`; see `EvaluationConfig`. `engine`
    writes the replies, or our own generator if it is None.
    """

    wanted: Wanted
    max_new_tokens: int
    batch_size: int
    thinking: bool | None = None
    max_thinking_tokens: int | None = None
    sampling: Sampling = GREEDY
    title: str = "replies"
    engine: Engine | None = None

    kind: ClassVar[StageKind] = StageKind.evaluate

    @property
    def key(self) -> dict[str, object]:
        """For the store; greedy replies draw on no seed."""
        return {
            **self.asked_key,
            **({"sampling": self.sampling} if self.sampling.draws else {}),
            "wanted": self.wanted,
            "max_new_tokens": self.max_new_tokens,
            "thinking": self.asked_to_think,
            "max_thinking_tokens": self.max_thinking_tokens,
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
        return self.encode(self.wanted, thinking=bool(self.asked_to_think))

    @property
    def asked_to_think(self) -> bool | None:
        """What the prompts ask for; None if they ask for neither."""
        return self.thinking if self.wanted is Wanted.rationale else None

    def check(self) -> None:
        """UserError for a mode that the model lacks, no tokens left, or an engine's other model.

        Loads no model.
        """
        tokenizer, cap = self.student.tokenizer, self.max_thinking_tokens
        if self.asked_to_think:
            refuse_thinking(tokenizer, "evaluation.thinking", chat=self.chat)
        if cap is not None:
            refuse_idle_cap(tokenizer, f"evaluation.max_thinking_tokens={cap}", chat=self.chat)
        lengths = {name: len(ids) for name, ids in self.prompts}
        thinking = self.thinking_rules(self.max_thinking_tokens)
        most = self.max_new_tokens + (thinking.most_tokens if thinking else 0)
        limit = "max_new_tokens" if self.further else "evaluation.max_new_tokens"
        self.student.refuse_long_prompts(
            lengths,
            most,
            {
                limit: self.max_new_tokens,
                "evaluation.max_thinking_tokens": self.max_thinking_tokens,
            },
            self.shots_setting,
        )
        if self.engine is not None and self.prompts:
            self.engine.check(self.prompts[0][1], max(lengths.values()) + most)

    def produce(self, folder: Path) -> Tokens:
        """Write the replies."""
        self.check()
        replies = write_replies(self, folder)
        write_table(folder / _TABLE, Prediction, replies)
        return Tokens(
            read=sum(len(ids) for _, ids in self.prompts),
            written=sum(reply.generated_tokens for reply in replies),
        )

    @staticmethod
    def read(folder: Path) -> list[Prediction]:
        """The replies, in the order of the questions."""
        return read_table(folder / _TABLE, Prediction)


def write_replies(asked: ReplyInputs, folder: Path) -> list[Prediction]:
    """Write the replies, kept in `folder` one by one, and read their answers."""
    from caft.models.reply_rules import ReplyRules

    log.info("%s: %s", asked.title, count_of(len(asked.prompts), "question"))
    rules = ReplyRules(
        max_new_tokens=asked.max_new_tokens,
        end_ids=asked.student.end_ids(chat=asked.chat),
        thinking=asked.thinking_rules(asked.max_thinking_tokens),
        sampling=asked.sampling,
    )
    written = Predictor(asked.student, asked.trainer, folder).write(
        asked.prompts, rules, rows=asked.batch_size, title=asked.title, engine=asked.engine
    )
    tokenizer = asked.student.tokenizer
    opened = {name: ends_open(tokenizer, ids) for name, ids in asked.prompts}
    thinks = asked.asked_to_think if rules.thinking else None
    return [
        read_reply(
            question,
            written[question.id],
            asked.prompt,
            opened=opened[question.id],
            asked_to_think=thinks,
            cut=was_cut(written[question.id], rules),
        )
        for question in asked.questions
    ]


def was_cut(reply: WrittenReply, rules: ReplyRules) -> bool:
    """Whether a limit ended it; a server that tells no ids may have ended it on its last token."""
    if reply.ids and reply.ids[-1] in rules.end_ids:
        return False
    capped = rules.thinking is not None and rules.thinking.max_tokens is not None
    answer = reply.tokens - (reply.thinking_tokens if capped else 0)
    return answer >= rules.max_new_tokens or reply.tokens >= rules.most_tokens

"""The input of every kind of teacher, and a Rationale before its verdict. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from caft.distill.accept import Rules
from caft.records import Question, Rationale
from caft.teachers.progress import Watcher
from caft.teachers.replies import TeacherReply
from caft.text.config import PromptConfig
from caft.text.prompts import Prompt, Wanted, write_prompt


class LocalReply(Protocol):
    """What a local model wrote: text without special tokens, and the tokens it took."""

    @property
    def text(self) -> str: ...  # noqa: D102

    @property
    def tokens(self) -> int: ...  # noqa: D102


Generate = Callable[[Sequence[Prompt]], Sequence[LocalReply]]
"""A local model's greedy replies to chat prompts, at most `max_tokens` tokens each."""

unjudged = partial(Rationale, answer=None, agrees=False)
"""A Rationale before its verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillInputs:
    """The input of every kind of teacher."""

    questions: Sequence[Question]
    prompt: PromptConfig
    rules: Rules
    ledger_path: Path
    shots: Sequence[Question] = ()
    progress: Watcher | None = None
    generate: Generate | None = None


def write_prompts(
    questions: Sequence[Question], config: PromptConfig, shots: Sequence[Question]
) -> list[Prompt]:
    """The turns that ask for each question's rationale."""
    wanted = Wanted.rationale
    return [write_prompt(each, config, wanted, chat=True, shots=shots) for each in questions]


def from_reply(question: Question, reply: TeacherReply, source: str, attempt: int) -> Rationale:
    """A reply, or its failure, as a Rationale."""
    return unjudged(
        question_id=question.id,
        text=reply.text,
        refusal=f"no_reply: {reply.failure}" if reply.failure else "",
        source=source,
        finish_reason=reply.finish_reason,
        attempt=attempt,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        usd=reply.usd,
        seconds=reply.seconds,
        ledger_key="" if reply.failure else reply.key,
    )

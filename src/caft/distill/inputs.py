"""What every kind of teacher is handed, and the records that it hands back unjudged. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillInputs:
    """What every kind of teacher is handed."""

    questions: Sequence[Question]
    prompt: PromptConfig
    rules: Rules
    ledger_path: Path
    shots: Sequence[Question] = ()
    progress: Watcher | None = None
    generate: Generate | None = None


def rationale_prompt(question: Question, job: DistillInputs) -> Prompt:
    """The turns that ask for the question's rationale."""
    return write_prompt(question, job.prompt, Wanted.rationale, chat=True, shots=job.shots)


def from_reply(question: Question, reply: TeacherReply, source: str, attempt: int) -> Rationale:
    """A reply of the ledger's as a Rationale."""
    if reply.failure:
        return no_reply(question, source, f"no_reply: {reply.failure}", attempt)
    return Rationale(
        question_id=question.id,
        text=reply.text,
        answer=None,
        agrees=False,
        source=source,
        finish_reason=reply.finish_reason,
        attempt=attempt,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        usd=reply.usd,
        seconds=reply.seconds,
        ledger_key=reply.key,
    )


def no_reply(question: Question, source: str, refusal: str, attempt: int = 0) -> Rationale:
    """The Rationale that never came; `refusal` says why."""
    return Rationale(
        question_id=question.id,
        text="",
        answer=None,
        agrees=False,
        refusal=refusal,
        source=source,
        attempt=attempt,
    )


def as_written(
    question: Question, text: str, source: str, finish_reason: str = "stop", attempt: int = 0
) -> Rationale:
    """A text that nobody was paid for."""
    return Rationale(
        question_id=question.id,
        text=text,
        answer=None,
        agrees=False,
        source=source,
        finish_reason=finish_reason,
        attempt=attempt,
    )

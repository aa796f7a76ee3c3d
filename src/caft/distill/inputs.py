"""The input of every kind of teacher, and a Rationale before its verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from caft.distill.accept import Rules
from caft.models.sampling import Sampling
from caft.protocols import Written
from caft.records import Question, Rationale, Target
from caft.teachers.config import TeacherConfig
from caft.teachers.ledger import Place
from caft.teachers.progress import Watcher
from caft.teachers.replies import TeacherReply
from caft.text.config import PromptConfig
from caft.text.prompts import Prompt, Wanted, write_prompt


class Generate(Protocol):
    """A local model that replies to chat prompts, in at most `max_tokens` tokens each."""

    def __call__(
        self, prompts: Sequence[Prompt], names: Sequence[str], sampling: Sampling, attempt: int
    ) -> Sequence[Written]:
        """The replies in order; where tokens are drawn, each depends on its name and attempt."""


unjudged = partial(Rationale, answer=None, agrees=False)
"""A Rationale before its verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillInputs:
    """The questions, their teacher, what it is to write, and what every kind of teacher is given.

    `forbidden` are the student's special tokens: no accepted text holds one. `generate` is the
    loaded model of a local_model teacher; `engine` is the key of what writes for it, empty if we
    do. `shots` are questions with worked solutions that the teacher is shown before each question;
    weak teachers do not end in [[...]] without.
    """

    questions: Sequence[Question]
    prompt: PromptConfig
    teacher: TeacherConfig
    ledger_path: Place
    forbidden: Sequence[str] = ()
    shots: Sequence[Question] = ()
    progress: Watcher | None = None
    generate: Generate | None = None
    target: Target = Target.rationale
    engine: Mapping[str, object] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """What is asked of a reply."""
        keep, option_ids = self.teacher.keep, self.prompt.option_ids
        return Rules(keep=keep, option_ids=option_ids, forbidden=self.forbidden, target=self.target)

    @property
    def prompts(self) -> list[Prompt]:
        """The turns that ask for each question's rationale; no turn asks a teacher to think."""
        short = self.target is Target.short_rationale
        wanted = Wanted.short_rationale if short else Wanted.rationale
        config, shots = self.prompt, self.shots
        return [
            write_prompt(each, config, wanted, chat=True, shots=shots) for each in self.questions
        ]


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
        reasoning=reply.reasoning,
    )

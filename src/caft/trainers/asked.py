"""A student and what it is asked, as stages of scoring and of evaluation have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from caft.models.encoding import encode_prompt, uses_chat_template
from caft.models.student import Student
from caft.records import Question, describe_content
from caft.store import digest
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted, write_prompt
from caft.trainers.config import TrainerConfig
from caft.trainers.predicting import JOURNALS

if TYPE_CHECKING:
    from caft.models.thinking_cap import ThinkingRules


@dataclass(frozen=True, kw_only=True)
class AskedStudent:
    """A student, the questions that it is asked, and the shots that stand solved before each.

    Errors name settings of `dataset`, or for a `further` set those in its own table.
    """

    student: Student
    questions: Sequence[Question]
    shots: Sequence[Question]
    prompt: PromptConfig
    trainer: TrainerConfig
    further: bool = False

    resumable: ClassVar[bool] = True
    scratch: ClassVar[Sequence[str]] = JOURNALS

    @property
    def asked_key(self) -> dict[str, object]:
        """For the store; no seed is in it, since nothing here is drawn."""
        return {
            "student": self.student.key,
            "questions": digest(map(describe_content, self.questions)),
            "shots": digest(describe_content(shot, solved=True) for shot in self.shots),
            "prompt": self.prompt,
        }

    @property
    def chat(self) -> bool:
        """Whether prompts take the chat template; UserError where one is wanted and missing."""
        return uses_chat_template(self.prompt.style, self.student.tokenizer)

    @property
    def shots_setting(self) -> str:
        """The name of the setting that makes prompts long."""
        return "prompt.shots" if self.further else "dataset.prompt.shots"

    def thinking_rules(self, max_tokens: int | None = None) -> ThinkingRules | None:
        """How thinking spans of replies are read and capped; None if prompts never have one."""
        from caft.models.thinking_cap import thinking_rules

        return thinking_rules(self.student.tokenizer, max_tokens) if self.chat else None

    def encode(
        self, wanted: Wanted, *, thinking: bool = False, closed: bool = True
    ) -> list[tuple[str, tuple[int, ...]]]:
        """Question ids and prompt tokens, in the order of the questions."""
        tokenizer, chat = self.student.tokenizer, self.chat
        prompts = [
            write_prompt(question, self.prompt, wanted, chat=chat, shots=self.shots)
            for question in self.questions
        ]
        return [
            (question.id, encode_prompt(prompt, tokenizer, thinking=thinking, closed=closed))
            for question, prompt in zip(self.questions, prompts, strict=True)
        ]

"""The wordings of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from caft.dials import CountOrNone, Text, check_dials
from caft.errors import UserError


class PromptStyle(Enum):
    """`auto` uses the chat template if the model's tokenizer has one."""

    auto = "auto"
    chat = "chat"
    completion = "completion"


class OptionIds(Enum):
    """What is written before an option, and is the answer to it."""

    letters = "letters"
    digits = "digits"


class SystemTurn(Enum):
    """Where the instruction goes: its own turn, or the top of the user's turn."""

    separate = "separate"
    in_user_turn = "in_user_turn"


@dataclass(kw_only=True, slots=True)
class PromptConfig:
    """Wordings. `{subject}`, `{question}` and `{options}` are filled in; other braces are kept.

    `shots` solved examples precede the question when the base model is scored or evaluated;
    tuned models never see them. `completion_*` are for models without a chat template.
    `short_rationale` is added to `system_rationale` where a teacher is asked for a short one.
    `*_fallback_*` let the model reply 0 if it is not certain or does not know.
    """

    style: PromptStyle = PromptStyle.auto
    option_ids: OptionIds = OptionIds.letters
    shots: CountOrNone = 0
    system_turn: SystemTurn = SystemTurn.separate
    system_answer: str = (
        "You answer multiple choice questions about {subject}. "
        "Reply with the id of the correct option and nothing else."
    )
    system_bracketed: str = (
        "You answer multiple choice questions about {subject}. "
        "Reply with the id of the correct option in double square brackets and nothing else."
    )
    system_rationale: str = (
        "You answer multiple choice questions about {subject}. Think step by step, then end "
        "with the id of the correct option in double square brackets."
    )
    short_rationale: Text = (
        "Write the shortest solution that is still sufficient to reach the answer: only the steps "
        "that it needs, without repeating the question."
    )
    system_fallback_certain: str = (
        "You answer multiple choice questions about {subject}. Reply with the id of the correct "
        "option if you are certain of it and with 0 if you are not, and nothing else."
    )
    system_fallback_known: str = (
        "You answer multiple choice questions about {subject}. Reply with the id of the correct "
        "option if you know it and with 0 if you do not, and nothing else."
    )
    user: str = "{question}\n\n{options}"
    completion_answer: str = "Question: {question}\n{options}\nAnswer:"
    completion_bracketed: str = "Question: {question}\n{options}\nAnswer in brackets:"
    completion_rationale: str = "Question: {question}\n{options}\nSolution:"
    completion_fallback_certain: str = (
        "Question: {question}\n{options}\nAnswer, or 0 if not certain:"
    )
    completion_fallback_known: str = "Question: {question}\n{options}\nAnswer, or 0 if not known:"
    shot_separator: str = "\n\n"

    def __post_init__(self) -> None:
        check_dials(self, "dataset.prompt")
        for name in ("user", *(name for name in self.__slots__ if name.startswith("completion_"))):
            if "{question}" not in getattr(self, name):
                raise UserError(f"dataset.prompt.{name} has no {{question}} in it; put it in")

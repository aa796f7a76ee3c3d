"""Turns questions into prompts. Pure: tokens are made in models/encoding.py.

Spaces matter: "A" and " A" are different tokens. A completion prompt never ends in white space,
and its reply starts with one space, in solved examples, in training and in tests alike. A chat
prompt ends where the template opens the assistant's turn, and the reply follows at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from caft.records import Question
from caft.text.answers import answer_labels, gold_label
from caft.text.config import PromptConfig, SystemTurn


class Wanted(Enum):
    """What a prompt asks for: the bare answer, the paper's [[id]], or a solution that ends in it.

    Only a teacher is asked for a short one: nobody knows a test question's class.
    The two fallbacks ask for the bare answer, or for `DECLINED` where the model is not certain
    or does not know: the paper has both.
    """

    answer = "answer"
    bracketed = "bracketed"
    rationale = "rationale"
    short_rationale = "short_rationale"
    fallback_certain = "fallback_certain"
    fallback_known = "fallback_known"

    @property
    def may_decline(self) -> bool:
        """Whether `DECLINED` is an allowed reply."""
        return self in (Wanted.fallback_certain, Wanted.fallback_known)


DECLINED = "0"
"""The reply of a model that declines to answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Either chat `messages`, or a `text` to be completed; the other one is empty."""

    messages: tuple[Message, ...] = ()
    text: str = ""

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """Role and content of every turn."""
        return tuple((turn.role, turn.content) for turn in self.messages)

    @property
    def joiner(self) -> str:
        """What joins prompt and reply: nothing in a chat, one space in a completion."""
        return "" if self.messages else " "


def bracketed(label: str) -> str:
    """An answer in the paper's marker."""
    return f"[[{label}]]"


def write_prompt(
    question: Question,
    config: PromptConfig,
    wanted: Wanted,
    *,
    chat: bool,
    shots: Sequence[Question] = (),
) -> Prompt:
    """The prompt for `question`, after `shots` that are solved in the same form.

    A rationale prompt leaves out shots that have no worked solution.
    """
    solved = [(shot, solved_reply(shot, config, wanted)) for shot in shots]
    solved = [(shot, reply) for shot, reply in solved if reply]
    if chat:
        return Prompt(messages=_chat_turns(question, config, wanted, solved))
    blocks = [f"{_completion(shot, config, wanted)} {reply}" for shot, reply in solved]
    blocks.append(_completion(question, config, wanted))
    return Prompt(text=config.shot_separator.join(blocks))


def solved_reply(question: Question, config: PromptConfig, wanted: Wanted) -> str:
    """The gold reply in the wanted form; empty if the source has no worked solution."""
    label = gold_label(question, config.option_ids)
    if wanted is Wanted.answer or wanted.may_decline:
        return label
    if wanted is Wanted.bracketed:
        return bracketed(label)
    return close_with_answer(question.rationale, label) if question.rationale else ""


def close_with_answer(solution: str, label: str) -> str:
    """A worked solution that ends in the marker, which is added where it is missing."""
    solution = solution.strip()
    return solution if solution.endswith(bracketed(label)) else f"{solution} {bracketed(label)}"


def _chat_turns(
    question: Question,
    config: PromptConfig,
    wanted: Wanted,
    solved: Sequence[tuple[Question, str]],
) -> tuple[Message, ...]:
    turns: list[Message] = []
    for shot, reply in solved:
        turns += [Message("user", _fill(config.user, shot, config)), Message("assistant", reply)]
    turns.append(Message("user", _fill(config.user, question, config)))
    system = _fill(_instruction(wanted, config), question, config)
    if not system:
        return tuple(turns)
    if config.system_turn is SystemTurn.separate:
        return (Message("system", system), *turns)
    return (Message("user", f"{system}\n\n{turns[0].content}"), *turns[1:])


def _instruction(wanted: Wanted, config: PromptConfig) -> str:
    if wanted is Wanted.short_rationale:
        return f"{config.system_rationale} {config.short_rationale}".strip()
    return str(getattr(config, f"system_{wanted.value}"))


def _completion(question: Question, config: PromptConfig, wanted: Wanted) -> str:
    asked = Wanted.rationale if wanted is Wanted.short_rationale else wanted
    return _fill(getattr(config, f"completion_{asked.value}"), question, config).rstrip()


def _fill(template: str, question: Question, config: PromptConfig) -> str:
    pieces = {
        "question": question.text,
        "options": _option_lines(question, config),
        "subject": question.subject or "general knowledge",
    }
    # One pass: braces inside a question must not be filled in.
    return _PLACEHOLDER.sub(lambda found: pieces[found[1]], template).strip("\n")


_PLACEHOLDER = re.compile(r"\{(question|options|subject)\}")


def _option_lines(question: Question, config: PromptConfig) -> str:
    labels = answer_labels(question, config.option_ids) if question.options else ()
    pairs = zip(labels, question.options, strict=True)
    return "\n".join(f"{label}. {option}" for label, option in pairs)

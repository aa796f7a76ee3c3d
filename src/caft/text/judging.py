"""Asking another model how hard a question is, and reading what it says. Pure.

Every kind of judgement is an instruction and a reader: one entry of `JUDGED`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from caft.records import Question
from caft.text.config import PromptConfig, SystemTurn
from caft.text.parsing import drop_thinking, last_marker
from caft.text.prompts import Prompt, Wanted, write_prompt

LEVELS = ("high school", "undergraduate", "graduate")
"""Education levels, lowest first; their place from 1 is the estimate."""

MOST_STEPS = 1000
"""More reasoning steps than that are a slip of the pen."""


def read_level(reply: str) -> float | None:
    """The place of the named level from 1; None where the last [[...]] names none."""
    said = _marked(reply).casefold().replace("-", " ").replace("_", " ")
    words = " ".join(said.split()).removesuffix(" school level").removesuffix(" level")
    words = "high school" if words == "high" else words
    return float(LEVELS.index(words) + 1) if words in LEVELS else None


def read_steps(reply: str) -> float | None:
    """The whole number in the last [[...]]; None where there is none from 0 to 1000."""
    said = _marked(reply).casefold().removesuffix("steps").removesuffix("step").strip()
    if not (said.isascii() and said.isdigit()) or int(said[:6]) > MOST_STEPS:
        return None
    return float(said)


def _marked(reply: str) -> str:
    marker = last_marker(drop_thinking(reply) or "")
    return marker.content.strip() if marker else ""


@dataclass(frozen=True, slots=True)
class _Judged:
    instruction: str
    read: Callable[[str], float | None]


JUDGED = {
    "judge_education": _Judged(
        "You are shown a question about {subject}. Do not answer it. Say which education a person "
        "needs to answer it: high school, undergraduate or graduate. End with that level in "
        "double square brackets, such as [[undergraduate]].",
        read_level,
    ),
    "judge_steps": _Judged(
        "You are shown a question about {subject}. Do not answer it. Say how many steps of "
        "reasoning its answer takes. End with that whole number in double square brackets, such "
        "as [[4]].",
        read_steps,
    ),
}
"""By estimator: what the judge is told, and how its reply becomes a number."""


def write_judge_prompt(question: Question, config: PromptConfig, estimator: str) -> Prompt:
    """The chat turns that ask a judge about `question`."""
    worded = replace(
        config,
        system_answer=JUDGED[estimator].instruction,
        system_turn=SystemTurn.separate,
    )
    return write_prompt(question, worded, Wanted.answer, chat=True)


def read_judgement(reply: str, estimator: str) -> float | None:
    """The estimate that a judge's reply names; None where it cannot be read."""
    return JUDGED[estimator].read(reply)

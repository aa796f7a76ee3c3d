"""Asking another model how hard a question is, and reading its reply. Pure.

Each kind of judgement is one entry of `JUDGED`: an instruction, and the function that reads the
reply.
"""

from __future__ import annotations

import re
from dataclasses import replace

from caft.records import Question
from caft.text.config import PromptConfig, SystemTurn
from caft.text.parsing import parse_answer, unwrap_math
from caft.text.prompts import Prompt, Wanted, write_prompt

LEVELS = ("high school", "undergraduate", "graduate")
"""Education levels, lowest first; the estimate is their position, counted from 1."""

MOST_STEPS = 1000
"""A larger number of reasoning steps counts as an error."""


def _read_level(answer: str) -> float | None:
    words = " ".join(answer.replace("-", " ").replace("_", " ").split())
    words = words.removesuffix(" school level").removesuffix(" level")
    words = "high school" if words == "high" else words
    return float(LEVELS.index(words) + 1) if words in LEVELS else None


_STEPS = re.compile(
    r"(?:about|around|approximately|roughly|~|\u2248)?\s*([0-9]{1,6})\s*(?:reasoning\s+)?(?:steps?)?"
)


def _read_steps(answer: str) -> float | None:
    found = _STEPS.fullmatch(answer)
    number = float(found[1]) if found else None
    return None if number is None or number > MOST_STEPS else number


JUDGED = {
    "judge_education": (
        "You are shown a question about {subject}. Do not answer it. Say which education a person "
        "needs to answer it: high school, undergraduate or graduate. End with that level in "
        "double square brackets, such as [[undergraduate]].",
        _read_level,
    ),
    "judge_steps": (
        "You are shown a question about {subject}. Do not answer it. Say how many steps of "
        "reasoning its answer takes. End with that whole number in double square brackets, such "
        "as [[4]].",
        _read_steps,
    ),
}
"""By estimator: the judge's instruction, and how its answer becomes a number."""


def write_judge_prompt(question: Question, config: PromptConfig, estimator: str) -> Prompt:
    """The chat turns that ask a judge about `question`."""
    instruction, _ = JUDGED[estimator]
    worded = replace(config, system_answer=instruction, system_turn=SystemTurn.separate)
    return write_prompt(question, worded, Wanted.answer, chat=True)


def read_judgement(reply: str, estimator: str) -> float | None:
    """The estimate in the last [[...]] of a judge's reply; None if it cannot be read."""
    answer = parse_answer(reply, ())
    _, read = JUDGED[estimator]
    return None if answer is None else read(unwrap_math(answer).casefold())

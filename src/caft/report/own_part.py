"""The student's own rationales beside what chance would give, as summary.json has it."""

from __future__ import annotations

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict


class OwnRationalesPart(TypedDict):
    """Of `tries` drawn chains a question, `needed` must be right for one to be trained.

    `p` is the probability that chance alone keeps as many questions as were kept, or more
    (binomial).
    """

    questions: int
    kept: int
    kept_by_chance: float
    p: float
    right_tries: int
    right_tries_by_chance: float
    tries: int
    needed: int

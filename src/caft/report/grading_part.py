"""Who decided whether free answers are right, as summary.json has it."""

from __future__ import annotations

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict


class GradingPart(TypedDict):
    """`grader` is rules, math_verify or module:function, `version` that of a library or file.

    It decided the answers to `questions` free-text test questions. Of the `replies` to them our own
    rules would have graded `differ` otherwise.
    """

    grader: str
    version: str
    questions: int
    replies: int
    differ: int

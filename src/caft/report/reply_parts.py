"""What became of replies, in summary.json: how they were routed, and which cannot be read."""

from __future__ import annotations

from typing import NotRequired

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict


class FittedCutPart(TypedDict):
    """Where rationales begin in routed mode, in the estimator's unit; null: nowhere.

    `share` is that of the test questions that get one. `by_tuned`: the estimate is the tuned
    model's own, else the base model's.
    """

    estimator: str
    value: float | None
    share: float
    by_tuned: NotRequired[bool]


class UnreadPart(TypedDict):
    """How many replies have no readable answer, by reason.

    `outside` are those with an answer in the right form that is none of the allowed ones; what they
    said is in `said`, commonest first. `cut` were ended by the limit of tokens, and `no_marker`
    ended by themselves without an answer.
    """

    no_marker: int
    outside: int
    cut: int
    said: dict[str, int]

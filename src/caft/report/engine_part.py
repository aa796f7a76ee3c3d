"""What wrote the replies that were evaluated, in summary.json and in words."""

from __future__ import annotations

from typing import NotRequired

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict


class GatePart(TypedDict):
    """How an engine's replies of one model compared with ours, over the first `n` questions.

    `bound` is the least share of equal answers; `served` the model's name at a server, and
    `version` the engine's.
    """

    model: str
    served: str | None
    version: str | None
    n: int
    same_answers: int
    same_replies: int
    bound: float


class EnginePart(TypedDict):
    """What wrote the replies that were evaluated; `name` is own for our own generator.

    `settings` are what its replies depend on besides its version and the model. `writes_answers`:
    also those of answer mode, which are otherwise read as scores are; earlier versions wrote none.
    """

    name: str
    version: str | None
    settings: dict[str, object]
    writes_answers: NotRequired[bool]
    gates: list[GatePart]


def describe_engine(engine: EnginePart | None) -> list[str]:
    """What wrote the replies if we did not, and how it compared with us; empty if we did."""
    if not engine or engine["name"] == "own":
        return []
    name = f"{engine['name']} {engine['version'] or ''}".strip()
    lines = [f"Replies were written by {name}; answers of one token and all estimates are our own."]
    return lines + [
        f"The {gate['model']} model{' (' + gate['served'] + ')' if gate['served'] else ''}: "
        f"{gate['same_answers']} of {gate['n']} answers and {gate['same_replies']} replies were "
        f"equal to ours (bound {gate['bound']:g})."
        for gate in engine["gates"]
    ]

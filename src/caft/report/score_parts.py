"""What summary.json tells of scores besides their areas."""

from __future__ import annotations

# Pydantic accepts those of `typing` only from Python 3.12 on.
from typing_extensions import TypedDict


class Calibration(TypedDict):
    """How well the probabilities of the options, among themselves, are calibrated.

    `ece` is over the likeliest option in 10 bins. `brier` is Brier's score over all options, from 0
    to 2 and lower is better; `brier_of_guessing` is what equal probabilities would score.
    """

    ece: float
    brier: float
    brier_of_guessing: float
    confidence: float
    accuracy: float
    n: int


class FallbackPart(TypedDict):
    """The rows of the prompt that lets the model decline; none is left out."""

    wording: str
    n: int
    declined: int
    correct: int
    invalid: int


class ChainPart(TypedDict):
    """The base model's own chains of thought, greedy or drawn, and the tokens they took."""

    n: int
    correct: int
    unparsable: int
    tokens: int

"""Stages as the store sees them: work whose result is kept by everything that it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar

from caft.store.measure import Tokens

Result_co = TypeVar("Result_co", covariant=True)


class StageKind(Enum):
    """Kinds of stages. summary.json has the name, and the store's folder is the value."""

    score = "score"
    fallback = "fallback"
    p_true = "p_true"
    verbalized = "verbalized"
    teacher = "teacher"
    teacher_options = "teacher_options"
    chains = "chain"
    samples = "sample"
    judge = "judge"
    distill = "distill"
    tune = "tune"
    gate = "gate"
    evaluate = "evaluate"


class Stage(Protocol[Result_co]):
    """One piece of work. Its `key` alone decides what the result is."""

    @property
    def kind(self) -> StageKind:
        """What it makes."""

    @property
    def key(self) -> Mapping[str, object]:
        """Everything that the result depends on."""

    @property
    def resumable(self) -> bool:
        """Whether `produce` can go on from what an interrupted attempt left."""

    @property
    def scratch(self) -> Sequence[str]:
        """Names of what is left for the next attempt only, and is no part of the result."""

    def produce(self, folder: Path) -> Tokens | None:
        """Do the work and write its result into `folder`; returns the tokens that it took."""

    def read(self, folder: Path) -> Result_co:
        """The result that `produce` wrote."""

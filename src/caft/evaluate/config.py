"""How models are examined."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from caft.errors import UserError
from caft.records import Mode


class RoutedBy(Enum):
    """Whose entropy sends a test question to answer or to rationale mode.

    `base`: the base model's (adapter off), at the training cut. `tuned`: the tuned model's,
    with the cut refitted on validation rows.
    """

    base = "base"
    tuned = "tuned"


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """`max_new_tokens` bounds a rationale; a reply that is cut there has no answer: wrong.

    `batch_size` replies are written at once, which moves their logits by rounding alone
    (docs/decisions/0033-what-rounding-moves.md).
    """

    modes: list[Mode] = field(default_factory=lambda: [Mode.answer, Mode.rationale, Mode.routed])
    routed_by: RoutedBy = RoutedBy.base
    max_new_tokens: int = 1024
    batch_size: int = 128
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if Mode.routed in self.modes and not {Mode.answer, Mode.rationale} <= set(self.modes):
            raise UserError("evaluation.modes names routed, which needs answer and rationale too")
        if not self.modes:
            raise UserError("evaluation.modes is empty; name answer, rationale or routed")
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluation.{name} is {getattr(self, name)}; give 1 or more")
        if not 0.5 <= self.confidence < 1:
            raise UserError(f"evaluation.confidence is {self.confidence}; give 0.5 to below 1")

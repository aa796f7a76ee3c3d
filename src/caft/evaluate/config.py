"""How models are evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

from caft.dials import Count, Range, check_dials
from caft.errors import UserError
from caft.models.sampling import SamplingConfig
from caft.records import Mode


class RoutedBy(Enum):
    """Which estimate sends a test question to answer or to rationale mode, at which cut.

    `validation`: a model's own, at the cut at which it gets most validation questions right; the
    base model's for both where it needs more than the pass of a one-token answer. `base`: the base
    model's, at the training cut.
    """

    validation = "validation"
    base = "base"


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """`max_new_tokens` bounds a rationale; a reply that is cut there counts as wrong.

    `thinking` asks for rationales with thinking or without; None also asks without, and then
    nothing is said of whether the models obey. `max_thinking_tokens` closes a longer span, and then
    `max_new_tokens` bounds the rest alone; None bounds both together by `max_new_tokens`.
    `batch_size` replies are written at once, which changes their logits by rounding alone
    (docs/decisions/0033-what-rounding-moves.md). `sampling` is how written replies are decoded.
    `also` names further data sets, whose test questions show what tuning made the model forget: as
    given a name or a table, in a `RunConfig` each a `DatasetConfig`.
    """

    modes: list[Mode] = field(default_factory=lambda: [Mode.answer, Mode.rationale, Mode.routed])
    routed_by: RoutedBy = RoutedBy.validation
    max_new_tokens: Count = 1024
    thinking: bool | None = None
    max_thinking_tokens: Count | None = None
    batch_size: Count = 128
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    confidence: Annotated[float, Range(0.5, 0.9999)] = 0.95
    also: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_dials(self, "evaluation")
        if Mode.routed in self.modes and not {Mode.answer, Mode.rationale} <= set(self.modes):
            raise UserError("evaluation.modes names routed, which needs answer and rationale too")
        if not self.modes:
            raise UserError("evaluation.modes is empty; name answer, rationale or routed")
        if self.thinking and Mode.rationale not in self.modes:
            raise UserError(
                "evaluation.thinking is true, and only rationales are thought about; add rationale "
                "to evaluation.modes, or set evaluation.thinking=null"
            )

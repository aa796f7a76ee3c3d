"""What the arms cost under each way of counting, and what that saves against one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caft.report.sweep.arms import Arm

WAYS_OF_COUNTING = (
    ("unique_rationale_tokens", "unique response tokens"),
    ("trained_rationale_tokens", "response tokens in all epochs"),
    ("rationales_asked", "rationales asked for"),
    ("teacher_calls", "teacher calls"),
    ("teacher_tokens", "teacher tokens, read and written"),
    ("trained_total_tokens", "trained tokens, prompts included"),
    ("train_flops", "training FLOPs"),
    ("teacher_usd", "USD"),
)
"""Keys of `Arm.mean_cost`. The first two count a teacher's replies in the student's tokens; the
paper's "81% less data" is the second, and its first gives 62% (paper.md, section 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """One way of counting: a mean over the seeds for every arm, and the share saved or None."""

    key: str
    name: str
    amounts: tuple[float, ...]
    saved: tuple[float | None, ...]


def pick_reference(arms: Sequence[Arm]) -> Arm | None:
    """The arm that distils everything, or else the one that is taught most."""
    if not arms:
        return None
    distilling = [arm for arm in arms if arm.first["method"]["name"] == "distill"]
    return max(distilling or arms, key=lambda arm: arm.mean_cost("unique_rationale_tokens"))


def count_savings(arms: Sequence[Arm], reference: Arm) -> list[Saving]:
    """Every way of counting in which any arm used something."""
    counted = []
    for key, name in WAYS_OF_COUNTING:
        amounts = tuple(arm.mean_cost(key) for arm in arms)
        whole = reference.mean_cost(key)
        saved = tuple(1 - amount / whole if whole else None for amount in amounts)
        counted.append(Saving(key=key, name=name, amounts=amounts, saved=saved))
    return [saving for saving in counted if any(saving.amounts)]

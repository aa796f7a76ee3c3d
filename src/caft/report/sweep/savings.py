"""The cost of arms by each way of counting, and the savings against one of them."""

from __future__ import annotations

from collections.abc import Sequence

from caft.report.sweep.arms import EQUAL_BUDGET, Arm
from caft.report.sweep.comparisons import compare_pairs, like_for_like
from caft.report.sweep.schema import LossPart, SavingsPart
from caft.statistics import MARGIN, Interval, judge_saving

UNIQUE_TOKENS = "unique_rationale_tokens"
WAYS_OF_COUNTING = {
    UNIQUE_TOKENS: "unique rationale tokens",
    "trained_rationale_tokens": "rationale tokens in all epochs",
    "rationales_asked": "rationales requested",
    "teacher_calls": "teacher calls",
    "teacher_tokens": "teacher tokens, read and written",
    "trained_total_tokens": "trained tokens, prompts included",
    "train_flops": "training FLOPs",
    "teacher_usd": "USD",
}
"""Keys of `Arm.mean_cost`. The first two count a teacher's replies in the student's tokens; the
paper's "81% less data" is the second, and its first gives 62% (paper.md, section 5)."""


def count_savings(arms: Sequence[Arm], confidence: float) -> SavingsPart | None:
    """Every way of counting in which any arm used something; None without arms.

    The reference is the arm that distils everything, or else the one that is taught most. Arms
    with fewer rationale tokens are tested for non-inferiority against it.
    """
    if not arms:
        return None
    distilling = [arm for arm in arms if arm.first["method"]["name"] == "distill"]
    reference = max(distilling or arms, key=lambda arm: arm.mean_cost(UNIQUE_TOKENS))
    part: SavingsPart = {"reference": reference.name, "margin": MARGIN, "counts": {},
                         "losses": _find_losses(arms, reference, confidence)}  # fmt: skip
    for key, name in WAYS_OF_COUNTING.items():
        amounts = {arm.name: arm.mean_cost(key) for arm in arms}
        whole = amounts[reference.name]
        saved = {arm: 1 - amount / whole if whole else None for arm, amount in amounts.items()}
        if any(amounts.values()):
            part["counts"][key] = {"name": name, "amounts": amounts, "saved": saved}
    return part


def _find_losses(arms: Sequence[Arm], reference: Arm, confidence: float) -> list[LossPart]:
    # Arms of an equal budget save nothing.
    most = (1 - EQUAL_BUDGET) * reference.mean_cost(UNIQUE_TOKENS)
    cheaper = [arm for arm in arms if arm.mean_cost(UNIQUE_TOKENS) < most]
    pairs = [like_for_like(arm, reference) for arm in cheaper]
    return [
        {
            "arm": gap["first"], "mode": gap["mode"], "seeds": gap["seeds"],
            "value": gap["value"], "low": gap["low"], "high": gap["high"], "n": gap["n"],
            "verdict": judge_saving(
                Interval(gap["value"], gap["low"], gap["high"], gap["n"]), gap["seeds"]
            ).value,
        }
        for gap in compare_pairs(pairs, confidence, together=True)
    ]  # fmt: skip

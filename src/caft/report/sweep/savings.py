"""The cost of arms by each way of counting, and the savings against one of the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.report.comparison import as_interval
from caft.report.sweep.arms import EQUAL_BUDGET, Arm
from caft.report.sweep.comparisons import compare_pairs, like_for_like
from caft.report.sweep.schema import LossPart, SavingsPart
from caft.statistics import MARGIN, judge_saving

UNIQUE_TOKENS = "unique_rationale_tokens"
WAYS_OF_COUNTING = {
    UNIQUE_TOKENS: "unique rationale tokens",
    "trained_rationale_tokens": "rationale tokens in all epochs",
    "rationales_asked": "rationales requested",
    "teacher_calls": "teacher calls",
    "teacher_tokens": "teacher tokens, read and written",
    "own_rationale_tokens": "tokens of own chains",
    "trained_total_tokens": "trained tokens, prompts included",
    "train_flops": "training FLOPs",
    "usd": "USD",
}
"""Keys of `Arm.mean_cost`. The first two count a teacher's replies in the student's tokens; the
paper's "81% less data" is the second, and its first gives 62% (paper.md, section 5)."""


def count_savings(arms: Sequence[Arm], confidence: float) -> SavingsPart | None:
    """Every way of counting in which any arm used something; None without arms.

    The reference of a model and its test questions is the arm that distils everything, or else the
    one that is taught most. Arms with fewer rationale tokens are tested for non-inferiority.
    """
    if not arms:
        return None
    groups: dict[tuple[object, ...], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((*arm.model, arm.jobs[0].test_questions), []).append(arm)
    reference_of = {
        arm.name: reference
        for group in groups.values()
        for reference in [_pick_reference(group)]
        for arm in group
    }
    part: SavingsPart = {
        "reference": _pick_reference(list(reference_of.values())).name,
        "references": {name: reference.name for name, reference in reference_of.items()},
        "margin": MARGIN,
        "counts": {},
        "losses": _find_losses(arms, reference_of, confidence),
    }
    for key, name in WAYS_OF_COUNTING.items():
        amounts = {arm.name: arm.mean_cost(key) for arm in arms}
        wholes = {arm: amounts[reference.name] for arm, reference in reference_of.items()}
        saved = {
            arm: 1 - amount / wholes[arm] if wholes[arm] else None
            for arm, amount in amounts.items()
        }
        if any(amounts.values()):
            part["counts"][key] = {"name": name, "amounts": amounts, "saved": saved}
    return part


def _pick_reference(arms: Sequence[Arm]) -> Arm:
    distilling = [arm for arm in arms if arm.distils_everything]
    return max(distilling or arms, key=lambda arm: arm.mean_cost(UNIQUE_TOKENS))


def _find_losses(
    arms: Sequence[Arm], reference_of: Mapping[str, Arm], confidence: float
) -> list[LossPart]:
    # Arms of an equal budget save nothing.
    cheaper = [
        (arm, reference)
        for arm in arms
        for reference in [reference_of[arm.name]]
        if arm.mean_cost(UNIQUE_TOKENS) < (1 - EQUAL_BUDGET) * reference.mean_cost(UNIQUE_TOKENS)
    ]
    pairs = [like_for_like(*pair) for pair in cheaper]
    return [
        {
            "arm": gap["first"], "mode": gap["mode"], "seeds": gap["seeds"],
            "value": gap["value"], "low": gap["low"], "high": gap["high"], "n": gap["n"],
            "verdict": judge_saving(as_interval(gap), gap["seeds"]).value,
        }
        for gap in compare_pairs(pairs, confidence, together=True)
    ]  # fmt: skip

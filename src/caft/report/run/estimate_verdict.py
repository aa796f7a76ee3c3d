"""Whether an estimate predicts the model's mistakes, by its area. Pure."""

from __future__ import annotations

from caft.report.schema import Area, ScorePart
from caft.statistics import CHANCE_AREA, Verdict, judge_area


def main_area(score: ScorePart | None) -> Area | None:
    """The AUC of the estimator that the split uses."""
    return score["roc_auc"].get(score["estimator"]) if score else None


def judge_estimate(area: Area) -> Verdict | None:
    """Whether an estimate predicts mistakes; None where its area is undefined."""
    low, high = area["low"], area["high"]
    return None if low is None or high is None else judge_area(low, high, count_rarer(area))


def count_rarer(area: Area) -> int:
    """The wrong answers, or the right ones: those of which there are fewer."""
    return min(area["incorrect"], area["n"] - area["incorrect"])


def is_reversed(area: Area) -> bool:
    """Whether the model clearly errs where it looks sure."""
    high = area["high"]
    return judge_estimate(area) is Verdict.no and high is not None and high < CHANCE_AREA

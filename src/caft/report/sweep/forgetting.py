"""What each setting of a sweep changed on further data sets, over questions and seeds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caft.report.parts import ForgettingTestPart
from caft.report.schema import as_share
from caft.report.sweep.arms import Arm
from caft.report.sweep.schema import ArmForgettingPart
from caft.statistics import (
    FEWEST_SEEDS,
    Interval,
    Verdict,
    compare_arms,
    holm_adjusted,
    judge_forgetting,
)


def find_forgetting(arms: Sequence[Arm], confidence: float) -> list[ArmForgettingPart]:
    """Every setting on every further set, in every mode; Holm's correction over all of them."""
    found = [part for arm in arms for part in _measure(arm, confidence)]
    adjusted = holm_adjusted([part["p_value"] for part in found])
    for part, p in zip(found, adjusted, strict=True):
        part["p_adjusted"] = p
        if part["verdict"] != Verdict.undefined.value:
            part["verdict"] = _judge(part).value
    return found


def _judge(part: ArmForgettingPart) -> Verdict:
    """Of fewer seeds nothing is said about others, as of savings."""
    if part["seeds"] < FEWEST_SEEDS:
        return Verdict.unclear
    change = Interval(part["value"], part["low"], part["high"], part["n"])
    return judge_forgetting(change, part["p_adjusted"])


def _measure(arm: Arm, confidence: float) -> Iterator[ArmForgettingPart]:
    """Sets and modes in which all of its jobs put the same questions to both models."""
    parts = [job.finished.get("forgetting") for job in arm.jobs]
    for test in parts[0]["tests"] if parts[0] else ():
        key = (test["dataset"], test["mode"])
        tests = [
            other
            for part in parts
            for other in (part["tests"] if part else ())
            if (other["dataset"], other["mode"]) == key
        ]
        replies = {
            model: {job.seed: job.further.get((*key, model), {}) for job in arm.jobs}
            for model in ("base", "tuned")
        }
        asked = {frozenset(rows) for of in replies.values() for rows in of.values()}
        if len(asked) == 1 and asked != {frozenset()}:
            yield _describe(arm.name, test, tests, replies, confidence)


def _describe(
    arm: str,
    test: ForgettingTestPart,
    tests: Sequence[ForgettingTestPart],
    replies: Mapping[str, Mapping[int, Mapping[str, bool]]],
    confidence: float,
) -> ArmForgettingPart:
    outcomes = {
        model: {seed: [rows[key] for key in sorted(rows)] for seed, rows in by_seed.items()}
        for model, by_seed in replies.items()
    }
    (gap,) = compare_arms(outcomes, [("base", "tuned")], confidence)
    undefined = all(each["verdict"] == Verdict.undefined.value for each in tests)
    share = {
        model: sum(sum(rows) / len(rows) for rows in by_seed.values()) / len(by_seed)
        for model, by_seed in outcomes.items()
    }
    return {
        "arm": arm,
        "dataset": test["dataset"],
        "mode": test["mode"],
        "seeds": gap.seeds,
        "base": share["base"],
        "tuned": share["tuned"],
        **as_share(gap.difference),
        "p_value": gap.p_value,
        "p_adjusted": gap.p_value,
        "verdict": (Verdict.undefined if undefined else Verdict.unclear).value,
    }

"""What each setting of a sweep changed on further data sets, over questions and seeds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caft.report.comparison import as_interval
from caft.report.parts import ForgettingTestPart
from caft.report.schema import as_share
from caft.report.sweep.arms import Arm
from caft.report.sweep.schema import ArmForgettingPart
from caft.statistics import (
    FEWEST_SEEDS,
    MARGIN,
    Verdict,
    compare_arms,
    holm_adjusted,
    judge_forgetting,
    score_bounds,
)


def find_forgetting(arms: Sequence[Arm], confidence: float) -> list[ArmForgettingPart]:
    """Every setting on every further set, in every mode; Holm's correction over all of them."""
    found = [each for arm in arms for each in _measure(arm, confidence)]
    adjusted = holm_adjusted([part["p_value"] for part, _ in found])
    for (part, low), p in zip(found, adjusted, strict=True):
        part["p_adjusted"] = p
        if part["verdict"] != Verdict.undefined.value:
            part["verdict"] = _judge(part, low).value
    return [part for part, _ in found]


def _judge(part: ArmForgettingPart, low: float) -> Verdict:
    """Of fewer seeds nothing is said about others, as of savings.

    `low` is the lower bound of one run that changed as many answers as these on average: seeds that
    each win another of a few questions say no more of others that could be lost.
    """
    if part["seeds"] < FEWEST_SEEDS:
        return Verdict.unclear
    verdict = judge_forgetting(as_interval(part), part["p_adjusted"])
    return Verdict.unclear if verdict is Verdict.no and low <= -MARGIN else verdict


def _measure(arm: Arm, confidence: float) -> Iterator[tuple[ArmForgettingPart, float]]:
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
) -> tuple[ArmForgettingPart, float]:
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
    changed = (gap.only_first / gap.seeds, gap.only_second / gap.seeds)
    low, _ = score_bounds(gap.difference.n, *changed, confidence)
    part: ArmForgettingPart = {
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
    return part, low

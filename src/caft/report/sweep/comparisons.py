"""Compares arms of a sweep on the same test questions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from caft.report.schema import as_share
from caft.report.sweep.arms import Arm, pick_common_mode, share_engine, share_questions
from caft.report.sweep.schema import ComparisonPart
from caft.statistics import (
    ALPHA,
    Interval,
    count_paired,
    difference_interval,
    holm_adjusted,
    resample_means,
    sign_flip_exact,
    smallest_paired_difference,
    sum_differences,
)


def compare_all(arms: Sequence[Arm], confidence: float) -> list[ComparisonPart]:
    """Every pair of arms that answered the same test questions by the same engine."""
    return compare_pairs([_like_for_like(*pair) for pair in combinations(arms, 2)], confidence)


def _like_for_like(first: Arm, second: Arm) -> tuple[Arm, Arm]:
    """Both in one mode where they were tuned in the same stages.

    Elsewhere the mode is part of the method: a model that never saw a rationale is not asked to
    write one, so each keeps the mode that its own validation questions chose.
    """
    mode = pick_common_mode(first, second) if first.stages == second.stages else None
    return (first.in_mode(mode), second.in_mode(mode)) if mode else (first, second)


def compare_pairs(pairs: Sequence[tuple[Arm, Arm]], confidence: float) -> list[ComparisonPart]:
    """The pairs of one engine that answered the same questions; Holm's correction over them."""
    found: list[ComparisonPart] = []
    comparable = [
        (one, two) for one, two in pairs if share_questions(one, two) and share_engine(one, two)
    ]
    for questions in dict.fromkeys(one.questions for one, _ in comparable):
        group = [pair for pair in comparable if pair[0].questions == questions]
        arms = {_key_of(arm): arm for pair in group for arm in pair}
        means = resample_means({key: outcome_rows(arm) for key, arm in arms.items()})
        for one, two in group:
            gap = difference_interval(means[_key_of(one)], means[_key_of(two)], confidence)
            found.append(_pool_seeds(one, two, gap))
    adjusted = holm_adjusted([pair["p_value"] for pair in found])
    for pair, p in zip(found, adjusted, strict=True):
        pair["p_adjusted"] = p
        pair["clear"] = p < ALPHA and (pair["low"] > 0 or pair["high"] < 0)
    return found


def _key_of(arm: Arm) -> tuple[str, ...]:
    """An arm as it is evaluated: one arm may be compared in several modes."""
    return (arm.name, *(str(job.mode) for job in arm.jobs))


def outcome_rows(arm: Arm) -> list[list[bool]]:
    """One row of outcomes a seed, in the order of the questions' ids."""
    order = sorted(arm.jobs[0].outcomes)
    return [[job.outcomes[question] for question in order] for job in arm.jobs]


def _pool_seeds(first: Arm, second: Arm, difference: Interval) -> ComparisonPart:
    pairs = pair_seeds(first, second)
    outcome = count_paired(
        [right for row, _ in pairs for right in row], [right for _, row in pairs for right in row]
    )
    differing = (outcome.only_first + outcome.only_second) / outcome.n
    p_value = sign_flip_exact(sum_differences(pairs))
    modes = {*first.modes, *second.modes}
    return {
        "first": first.name,
        "second": second.name,
        "mode": modes.pop() if len(modes) == 1 else None,
        **as_share(difference),
        "seeds": min(len(first.jobs), len(second.jobs)),
        "only_first": outcome.only_first,
        "only_second": outcome.only_second,
        "p_value": p_value,
        "p_adjusted": p_value,
        "clear": False,
        "detectable": smallest_paired_difference(difference.n, differing),
    }


def pair_seeds(first: Arm, second: Arm) -> list[tuple[list[bool], list[bool]]]:
    """Outcome rows of both arms, paired by equal seeds, or in order if none is equal."""
    one, two = (dict(zip(arm.seeds, outcome_rows(arm), strict=True)) for arm in (first, second))
    shared = [(one[seed], two[seed]) for seed in one if seed in two]
    return shared or list(zip(one.values(), two.values(), strict=False))

"""Arms of a sweep against each other, on the same test questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from caft.report.sweep.arms import Arm, pick_common_mode, share_questions
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmComparison:
    """Second minus first arm.

    `difference` is that of the mean accuracies, with the bootstrap's bounds over questions and
    seeds: other questions and other seeds. `only_first` and `only_second` count the replies that
    one of the two alone got right, over the seeds that are paired. `p_value` is the exact test
    that flips the sign of each question's difference, summed over those seeds (McNemar's for one
    seed), and `p_adjusted` Holm's over all comparisons that were made together. The test speaks
    of other questions put to these very models and the interval of other seeds too, so that a
    small p beside an interval around 0 is no finding. `detectable` is the least difference that
    this many questions would reveal. `mode` is the one mode that both are examined in, None where
    their jobs differ in it.
    """

    first: str
    second: str
    mode: str | None
    difference: Interval
    seeds: int
    only_first: int
    only_second: int
    p_value: float
    p_adjusted: float
    detectable: float | None

    @property
    def clear(self) -> bool:
        """Whether test and interval agree that there is a difference."""
        apart = self.difference.low > 0 or self.difference.high < 0
        return apart and self.p_adjusted < ALPHA


def compare_all(arms: Sequence[Arm], confidence: float) -> list[ArmComparison]:
    """Every pair of arms that answered the same test questions."""
    return compare_pairs([_like_for_like(*pair) for pair in combinations(arms, 2)], confidence)


def _like_for_like(first: Arm, second: Arm) -> tuple[Arm, Arm]:
    """Both in one mode where they were tuned in the same stages.

    Elsewhere the mode is part of the method: a model that never saw a rationale is not asked for
    one, so that each keeps the mode that its own validation questions chose.
    """
    mode = pick_common_mode(first, second) if first.stages == second.stages else None
    return (first.examine_in(mode), second.examine_in(mode)) if mode else (first, second)


def compare_pairs(pairs: Sequence[tuple[Arm, Arm]], confidence: float) -> list[ArmComparison]:
    """The pairs whose arms answered the same questions, with Holm's correction over them."""
    found: list[ArmComparison] = []
    comparable = [(one, two) for one, two in pairs if share_questions(one, two)]
    for questions in dict.fromkeys(one.questions for one, _ in comparable):
        group = [pair for pair in comparable if pair[0].questions == questions]
        found += _compare_group(group, confidence)
    adjusted = holm_adjusted([comparison.p_value for comparison in found])
    return [
        replace(comparison, p_adjusted=p) for comparison, p in zip(found, adjusted, strict=True)
    ]


def _compare_group(pairs: Sequence[tuple[Arm, Arm]], confidence: float) -> list[ArmComparison]:
    arms = {_key_of(arm): arm for pair in pairs for arm in pair}
    resampled = resample_means({key: outcome_rows(arm) for key, arm in arms.items()})
    compared = []
    for first, second in pairs:
        means = resampled[_key_of(first)], resampled[_key_of(second)]
        compared.append(_pool_seeds(first, second, difference_interval(*means, confidence)))
    return compared


def _key_of(arm: Arm) -> tuple[str, ...]:
    """An arm as it is examined: one arm may be compared in several modes."""
    return (arm.name, *(str(job.mode) for job in arm.jobs))


def outcome_rows(arm: Arm) -> list[list[bool]]:
    """One row of outcomes a seed, in the order of the questions' ids."""
    order = sorted(arm.jobs[0].outcomes)
    return [[job.outcomes[question] for question in order] for job in arm.jobs]


def _pool_seeds(first: Arm, second: Arm, difference: Interval) -> ArmComparison:
    pairs = pair_seeds(first, second)
    one = [right for row, _ in pairs for right in row]
    two = [right for _, row in pairs for right in row]
    outcome = count_paired(one, two)
    differing = (outcome.only_first + outcome.only_second) / outcome.n
    p_value = sign_flip_exact(sum_differences(pairs))
    modes = {*first.modes, *second.modes}
    return ArmComparison(
        first=first.name,
        second=second.name,
        mode=modes.pop() if len(modes) == 1 else None,
        difference=difference,
        seeds=min(len(first.jobs), len(second.jobs)),
        only_first=outcome.only_first,
        only_second=outcome.only_second,
        p_value=p_value,
        p_adjusted=p_value,
        detectable=smallest_paired_difference(difference.n, differing),
    )


def pair_seeds(first: Arm, second: Arm) -> list[tuple[list[bool], list[bool]]]:
    """Outcome rows of both arms, seed beside equal seed, or in order where none is equal."""
    rows = (outcome_rows(first), outcome_rows(second))
    seeds = (first.seeds, second.seeds)
    shared = [seed for seed in seeds[0] if seed in seeds[1]]
    if not shared:
        return list(zip(*rows, strict=False))
    return [(rows[0][seeds[0].index(s)], rows[1][seeds[1].index(s)]) for s in shared]

"""Compares arms of predictions as a sweep's report compares its own. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

from caft.report.headlines import Headline, Tone
from caft.report.predictions.read import PredictedArm
from caft.report.schema import as_share
from caft.report.sweep.answers import find_best
from caft.report.sweep.arms import EQUAL_BUDGET, are_close
from caft.report.sweep.comparisons import correct_together, describe_pair
from caft.report.sweep.schema import ArmPart, ComparisonPart
from caft.report.wording import count_of, short_count
from caft.statistics import (
    ALPHA,
    FEWEST_SEEDS,
    ArmsCompared,
    Interval,
    compare_arms,
    compare_counts,
    count_interval,
    is_clear,
    judge_difference,
    mean_interval,
    mean_over_seeds,
    resample_means,
    smallest_paired_difference,
)
from caft.statistics.calibrate import DIFFERING

UNEQUAL, UNKNOWN = "unequal budgets", "unknown"
_COSTS = ("rationales_kept", "trained_total_tokens", "usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The rows that a sweep's tables take.

    `verdicts` say for each pair whether the second arm is better; `budgets` tell both teacher
    bills, empty where no arm has one, and pairs of unequal ones have no verdict. `together` has by
    place the pairs with a verdict, by intervals that hold all at once, as those of a sweep's tests
    of routing do: verdicts and `headlines`, which rank the arms of each budget, are by them. Bounds
    in `comparisons` hold each for itself. `paired` is False where counts alone are known.
    """

    arms: Sequence[ArmPart]
    comparisons: Sequence[ComparisonPart]
    together: Mapping[int, ComparisonPart]
    verdicts: Sequence[str]
    budgets: Sequence[str]
    headlines: Sequence[Headline]
    warnings: Sequence[str]
    paired: bool


def judge_predictions(arms: Sequence[PredictedArm], confidence: float = 0.95) -> Judgement:
    """Every pair of arms, the more accurate one second, with Holm's correction over all pairs.

    Where teacher tokens are told, only arms of equal ones are ranked, as in a sweep's report, and
    by intervals that hold together.
    """
    paired = _have_outcomes(arms)
    rising = sorted(arms, key=lambda arm: arm.accuracy)
    pairs = list(combinations(rising, 2))
    found = [
        describe_pair(one.name, two.name, gap)
        for (one, two), gap in zip(pairs, _compare(arms, pairs, confidence), strict=True)
    ]
    correct_together(found)
    judged = [place for place, both in enumerate(pairs) if _are_equal(*both)]
    tested = [pairs[place] for place in judged]
    gaps = _compare(arms, tested, confidence, together=True, tests=len(pairs))
    verdicts = [UNEQUAL] * len(pairs)
    together: dict[int, ComparisonPart] = {}
    for place, gap in zip(judged, gaps, strict=True):
        difference, p, pair = gap.difference, found[place]["p_adjusted"], found[place]
        # What the verdict could have seen, not what the narrower bounds beside it could have.
        pair["detectable"] = gap.detectable
        clear = is_clear(difference, p, gap.seeds)
        together[place] = {**pair, **as_share(difference), "clear": clear}
        verdicts[place] = judge_difference(difference, p, gap.seeds).value
    rivals = [*together.values()]
    billed = any(arm.bill is not None for arm in arms)
    return Judgement(
        arms=[_describe_arm(arm, confidence) for arm in arms],
        comparisons=found,
        together=together,
        verdicts=verdicts,
        budgets=[_tell_budget(*both) for both in pairs] if billed else [],
        headlines=_rank_by_budget(arms, rivals) if billed else [find_best(arms, rivals)],
        warnings=[*_warn_of_seeds(arms), *([] if paired else _warn_of_counts(arms))],
        paired=paired,
    )


def _are_equal(one: PredictedArm, two: PredictedArm) -> bool:
    """Whether two arms may be ranked: their bills are equal, or neither has one."""
    if one.bill is None or two.bill is None:
        return one.bill is two.bill
    return are_close(one.bill, two.bill)


def _tell_budget(one: PredictedArm, two: PredictedArm) -> str:
    if _are_equal(one, two) and one.bill is not None:
        return "equal"
    bills = [UNKNOWN if arm.bill is None else short_count(arm.bill) for arm in (one, two)]
    return " and ".join(dict.fromkeys(bills))


def _rank_by_budget(
    arms: Sequence[PredictedArm], found: Sequence[ComparisonPart]
) -> list[Headline]:
    """The best arm of every budget that several have, the largest first."""
    told = sorted((arm for arm in arms if arm.bill is not None), key=lambda arm: arm.bill or 0.0)
    groups: list[list[PredictedArm]] = []
    for place, first in enumerate(told):
        group = [arm for arm in told[place:] if _are_equal(first, arm)]
        # In rising order, a group that ends where the last one does is a part of it.
        if len(group) > 1 and not (groups and groups[-1][-1] is group[-1]):
            groups.append(group)
    tolerance = f"within {EQUAL_BUDGET:.0%}"
    asked = "Which setting is the most accurate at equal teacher tokens?"
    if not groups:
        detail = (
            "Other budgets are other questions, so that no setting is ranked; the tables show all "
            "with their cost. Leave teacher_tokens out to rank them whatever they cost."
        )
        figure = f"no two have equal ones, {tolerance}"
        return [Headline(asked, "Undefined", figure, detail, Tone.unclear)]
    ranked = []
    for group in reversed(groups):
        about = f"{short_count(round(fmean(arm.bill or 0.0 for arm in group)))} each, {tolerance}"
        ranked.append(replace(find_best(group, found), asked=f"{asked[:-1]} ({about})?"))
    return ranked


def _compare(
    arms: Sequence[PredictedArm],
    pairs: Sequence[tuple[PredictedArm, PredictedArm]],
    confidence: float,
    *,
    together: bool = False,
    tests: int | None = None,
) -> list[ArmsCompared]:
    if _have_outcomes(arms):
        # The rows of all arms, so that every call draws the same resamples.
        rows = {arm.name: _rows_by_seed(arm) for arm in arms}
        names = [(one.name, two.name) for one, two in pairs]
        return compare_arms(rows, names, confidence, together=together, tests=tests)
    # How pairs that share an arm move together is not known from counts: Bonferroni's.
    each = 1 - (1 - confidence) / len(pairs) if together and pairs else confidence
    # No table shows the replies that one arm alone got right, which counts do not say.
    return [compare_counts(one.counts, two.counts, each, tests or len(pairs)) for one, two in pairs]


def _have_outcomes(arms: Sequence[PredictedArm]) -> bool:
    return all(arm.outcomes for arm in arms)


def _rows_by_seed(arm: PredictedArm) -> dict[int, list[bool]]:
    order = sorted(next(iter(arm.outcomes.values())))
    return {seed: [arm.outcomes[seed][question] for question in order] for seed in arm.seeds}


def _describe_arm(arm: PredictedArm, confidence: float) -> ArmPart:
    """The arm as a sweep's table has it; what other tools do not say is empty."""
    shares = [right / n for right, n in (arm.counts[seed] for seed in arm.seeds)]
    over_seeds = mean_over_seeds(shares, confidence)
    spent = arm.tokens_a_question
    return {
        "name": arm.name, "settings": {}, "strategy": "", "estimator": None, "method": arm.name,
        "seeds": arm.seeds, "modes": [], "by_mode": {}, "thresholds": [],
        "trained": {}, "by_class": {},
        "accuracy": as_share(_accuracy_of(arm, confidence)),
        "over_seeds": as_share(over_seeds) if over_seeds else None,
        # `write` has a word in its place.
        "tokens_a_question": math.nan if spent is None else spent,
        "cost": dict.fromkeys(_COSTS, 0.0)
        | ({} if arm.bill is None else {"teacher_tokens": arm.bill}),
    }  # fmt: skip


def _accuracy_of(arm: PredictedArm, confidence: float) -> Interval:
    if arm.outcomes:
        mean = resample_means({arm.name: [*_rows_by_seed(arm).values()]})[arm.name]
        return mean_interval(mean, confidence)
    return count_interval(arm.counts, confidence)


def _warn_of_seeds(arms: Sequence[PredictedArm]) -> list[str]:
    few = [arm.name for arm in arms if len(arm.seeds) < FEWEST_SEEDS]
    if not few:
        return []
    return [
        f"Fewer than {FEWEST_SEEDS} seeds: {', '.join(few)}. They say too little about other "
        "seeds for a verdict, whichever setting is ahead."
    ]


def _warn_of_counts(arms: Sequence[PredictedArm]) -> list[str]:
    """What it costs that outcomes are not known by question."""
    n = min(size for arm in arms for _, size in arm.counts.values())
    p = fmean(arm.accuracy for arm in arms)
    pairs = math.comb(len(arms), 2)
    alpha = ALPHA / pairs
    corrected = f", corrected for all {pairs} pairs," if pairs > 1 else ""
    unpaired = smallest_paired_difference(n, 2 * p * (1 - p), alpha=alpha)
    paired = smallest_paired_difference(n, DIFFERING, alpha=alpha)
    if unpaired is None or paired is None or paired >= unpaired:
        return ["Counts alone: judged by unpaired tests, as if each arm had other questions."]
    return [
        "Counts alone: judged by unpaired tests, as if each arm had other questions. On "
        f"{count_of(n, 'question')} and one seed{corrected} they would see a difference of "
        f"{100 * unpaired:.1f} points in four of five cases; with a row for every question it "
        f"would be {100 * paired:.1f}, where two arms disagree on {DIFFERING:.0%} of the questions:"
        f" the same power takes {(unpaired / paired) ** 2:.1f} times as many questions."
    ]

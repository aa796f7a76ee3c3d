"""Compares arms of a sweep on the same test questions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from caft.report.comparison import as_interval
from caft.report.schema import as_share
from caft.report.sweep.arms import Arm, pick_common_mode, share_engine, share_questions
from caft.report.sweep.schema import ComparisonPart
from caft.statistics import ArmsCompared, compare_arms, holm_adjusted, is_clear


def compare_all(arms: Sequence[Arm], confidence: float) -> list[ComparisonPart]:
    """Every pair of arms that answered the same test questions by the same engine."""
    return compare_pairs([like_for_like(*pair) for pair in combinations(arms, 2)], confidence)


def like_for_like(first: Arm, second: Arm) -> tuple[Arm, Arm]:
    """Both arms in one mode where they were tuned in the same stages.

    Elsewhere the mode is part of the method: a model that never saw a rationale is not asked to
    write one, so each keeps the mode that its own validation questions chose.
    """
    mode = pick_common_mode(first, second) if first.stages == second.stages else None
    return (first.in_mode(mode), second.in_mode(mode)) if mode else (first, second)


def compare_pairs(
    pairs: Sequence[tuple[Arm, Arm]], confidence: float, *, together: bool = False
) -> list[ComparisonPart]:
    """The pairs of one engine that answered the same questions; Holm's correction over them.

    `together`: all intervals hold at once, which is Bonferroni's over different sets of questions.
    """
    found: list[ComparisonPart] = []
    comparable = [
        (one, two) for one, two in pairs if share_questions(one, two) and share_engine(one, two)
    ]
    # Equal ids may be other questions: files may number their rows.
    asked = [(one.jobs[0].test_questions, one.questions) for one, _ in comparable]
    sets = dict.fromkeys(asked)
    each = 1 - (1 - confidence) / len(sets) if together and sets else confidence
    for questions in sets:
        group = [pair for pair, own in zip(comparable, asked, strict=True) if own == questions]
        arms = {_key_of(arm): arm for pair in group for arm in pair}
        compared = compare_arms(
            {key: outcomes_by_seed(arm) for key, arm in arms.items()},
            [(_key_of(one), _key_of(two)) for one, two in group],
            each,
            together=together,
            tests=len(comparable),
        )
        found += [_describe(*pair, gap) for pair, gap in zip(group, compared, strict=True)]
    correct_together(found)
    return found


def correct_together(found: Sequence[ComparisonPart]) -> None:
    """Holm's correction over these comparisons, and which of them are clear by it."""
    adjusted = holm_adjusted([pair["p_value"] for pair in found])
    for pair, p in zip(found, adjusted, strict=True):
        pair["p_adjusted"] = p
        pair["clear"] = is_clear(as_interval(pair), p, pair["seeds"])


def _key_of(arm: Arm) -> tuple[str, ...]:
    """An arm as it is evaluated: one arm may be compared in several modes."""
    return (arm.name, *(str(job.mode) for job in arm.jobs))


def outcomes_by_seed(arm: Arm) -> dict[int, list[bool]]:
    """One row of outcomes a seed, in the order of the questions' ids."""
    order = sorted(arm.jobs[0].outcomes)
    return {job.seed: [job.outcomes[question] for question in order] for job in arm.jobs}


def _describe(first: Arm, second: Arm, gap: ArmsCompared) -> ComparisonPart:
    modes = {*first.modes, *second.modes}
    return describe_pair(first.name, second.name, gap, modes.pop() if len(modes) == 1 else None)


def describe_pair(
    first: str, second: str, gap: ArmsCompared, mode: str | None = None
) -> ComparisonPart:
    """The comparison as summary.json has it, before any correction over several."""
    return {
        "first": first,
        "second": second,
        "mode": mode,
        **as_share(gap.difference),
        "seeds": gap.seeds,
        "only_first": gap.only_first,
        "only_second": gap.only_second,
        "p_value": gap.p_value,
        "p_adjusted": gap.p_value,
        "clear": False,
        "detectable": gap.detectable,
    }

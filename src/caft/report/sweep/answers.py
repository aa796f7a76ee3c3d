"""A sweep's findings: one plain sentence a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from caft.report.headlines import Headline, Tone
from caft.report.sweep.arms import Arm, share_questions
from caft.report.sweep.comparisons import ArmComparison
from caft.report.sweep.job_results import FINISHED, Sweep
from caft.report.sweep.routing import RoutingAnswer, capitalise
from caft.report.sweep.savings import Saving, pick_reference
from caft.report.wording import count_of, p_in_words, percent, points_between_bounds
from caft.statistics import ALPHA, Verdict

_COUNTED = "unique_rationale_tokens"
_TONES = {
    Verdict.yes: Tone.good,
    Verdict.no: Tone.bad,
    Verdict.mixed: Tone.unclear,
    Verdict.unclear: Tone.unclear,
}


def find_answers(
    arms: Sequence[Arm],
    comparisons: Sequence[ArmComparison],
    routing: Sequence[RoutingAnswer],
    savings: Sequence[Saving],
) -> list[Headline]:
    """Routing first, then which arm is best, then what it saves; as far as there are numbers."""
    found = [_find_routing(answer) for answer in routing]
    if arms:
        found.append(_find_best(arms, comparisons))
    if len(arms) > 1 and any(saving.key == _COUNTED for saving in savings):
        found.append(_find_saving(arms, comparisons, savings))
    return found


def _find_routing(answer: RoutingAnswer) -> Headline:
    word, _, rest = answer.sentence.partition(": ")
    figure = f"{count_of(len(answer.tests), 'comparison')} at an equal budget"
    return Headline(answer.asked, word, figure, capitalise(rest), _TONES[answer.verdict])


def _find_best(arms: Sequence[Arm], comparisons: Sequence[ArmComparison]) -> Headline:
    ranked = sorted(arms, key=lambda arm: -arm.accuracy)
    best = ranked[0]
    figure = f"{percent(best.accuracy)} over {count_of(len(best.jobs), 'seed')}"
    asked = "Which setting is the most accurate?"
    if len(ranked) == 1:
        return Headline(asked, best.name, figure, "It is the only one so far.", Tone.plain)
    rivals = _not_clearly_worse(best, comparisons)
    compared = sum(best.name in (pair.first, pair.second) for pair in comparisons)
    if not compared:
        detail = "No other setting answered the same test questions."
        return Headline(asked, best.name, figure, detail, Tone.unclear)
    if not rivals:
        whom = "every other setting"
        if compared < len(arms) - 1:
            whom = (
                f"the {count_of(compared, 'setting')} that it could be compared with "
                f"({len(arms) - 1 - compared} answered other test questions)"
            )
        detail = f"It is clearly ahead of {whom}, by test and by interval."
        return Headline(asked, best.name, figure, detail, Tone.good)
    detail = (
        f"{best.name} comes first, but not clearly ahead of {_list_names(rivals)}: the order may "
        "be chance."
    )
    return Headline(asked, "Several are level", figure, detail, Tone.unclear)


def _not_clearly_worse(best: Arm, comparisons: Sequence[ArmComparison]) -> list[str]:
    return [
        pair.first if pair.second == best.name else pair.second
        for pair in comparisons
        if best.name in (pair.first, pair.second) and not _is_ahead(best, pair)
    ]


def _is_ahead(arm: Arm, pair: ArmComparison) -> bool:
    """Clearly so, and in the mode of the comparison, which need not be the arm's own."""
    gain = pair.difference.value if pair.second == arm.name else -pair.difference.value
    return pair.clear and gain > 0


def _list_names(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _find_saving(
    arms: Sequence[Arm], comparisons: Sequence[ArmComparison], savings: Sequence[Saving]
) -> Headline:
    """The cheapest arm that keeps up with the arm that is taught most."""
    reference = pick_reference(arms)
    assert reference is not None
    asked = f"What can be saved against {reference.name}?"
    level = [arm for arm in arms if arm is not reference and keeps_up(arm, reference, comparisons)]
    counted = next(saving for saving in savings if saving.key == _COUNTED)
    amounts = dict(zip((arm.name for arm in arms), counted.amounts, strict=True))
    level = [arm for arm in level if amounts[arm.name] < amounts[reference.name]]
    if not level:
        detail = "Every cheaper setting is less accurate, or answered other questions."
        return Headline(asked, "Nothing", "no cheaper setting keeps up", detail, Tone.unclear)
    cheapest = min(level, key=lambda arm: amounts[arm.name])
    place = [arm.name for arm in arms].index(cheapest.name)
    told = "; ".join(
        f"{saving.name} {percent(share)}"
        for saving in savings
        if (share := saving.saved[place]) is not None
    )
    return Headline(
        asked,
        f"{percent(counted.saved[place] or 0.0)} of the {counted.name}",
        f"with {cheapest.name}",
        f"No loss is shown ({_say_difference(cheapest, reference, comparisons)}); how large a one "
        "may hide there, the interval tells. "
        f"Saved by way of counting: {told}.",
        Tone.plain,
    )


def _pair_of(
    one: Arm, two: Arm, comparisons: Sequence[ArmComparison]
) -> tuple[ArmComparison | None, int]:
    for pair in comparisons:
        if {pair.first, pair.second} == {one.name, two.name}:
            return pair, 1 if pair.second == one.name else -1
    return None, 1


def keeps_up(arm: Arm, other: Arm, comparisons: Sequence[ArmComparison]) -> bool:
    """Neither the interval nor the test shows a loss."""
    pair, sign = _pair_of(arm, other, comparisons)
    if pair is None:
        return False
    lost = sign * pair.difference.value < 0 and pair.p_adjusted < ALPHA
    return not lost and max(sign * pair.difference.low, sign * pair.difference.high) > 0


def _say_difference(arm: Arm, other: Arm, comparisons: Sequence[ArmComparison]) -> str:
    pair, sign = _pair_of(arm, other, comparisons)
    assert pair is not None
    bounds = sorted((sign * pair.difference.low, sign * pair.difference.high))
    difference = points_between_bounds(sign * pair.difference.value, *bounds)
    if pair.mode:
        difference += f" in {pair.mode} mode"
    return f"{difference}, {p_in_words(pair.p_adjusted)} after Holm's correction"


def find_sweep_warnings(sweep: Sweep, arms: Sequence[Arm]) -> list[str]:
    """What a reader must know before believing the numbers."""
    warnings = []
    open_jobs = Counter(job.state for job in sweep.jobs if job.state != FINISHED)
    if open_jobs:
        states = ", ".join(f"{number} {state}" for state, number in open_jobs.items())
        warnings.append(
            f"{sum(open_jobs.values())} of {len(sweep.jobs)} jobs are in no number here: {states}."
        )
    if sweep.superseded:
        warnings.append(
            f"{count_of(sweep.superseded, 'earlier job')} left out: with the config as it is now, "
            "the same words make other jobs."
        )
    evaluated = [job for job in sweep.jobs if job.result and job.outcomes]
    repeated = len(evaluated) - sum(len(arm.jobs) for arm in arms)
    if repeated:
        warnings.append(
            f"{count_of(repeated, 'job')} left out: another one with equal settings and seed "
            "finished later."
        )
    alone = [arm.name for arm in arms if len(arm.jobs) == 1]
    if alone:
        warnings.append(
            f"One seed only: {_list_names(alone)}. Its interval is that of the questions alone."
        )
    if not all(share_questions(one, two) for one, two in combinations(arms, 2)):
        warnings.append(
            "Not all settings answered the same test questions; only those that did are compared."
        )
    if len({mode for arm in arms for mode in arm.modes}) > 1:
        warnings.append(
            "Settings answer in different modes and so spend different tokens a question; pairs "
            "with the same stages, and routing, are compared in one common mode."
        )
    return warnings

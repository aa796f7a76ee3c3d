"""A sweep's findings: one plain sentence for each question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Protocol

from caft.report.headlines import Headline, Tone
from caft.report.sweep.arms import Arm, share_questions
from caft.report.sweep.job_results import FINISHED, Sweep
from caft.report.sweep.routing import ENTROPY, name_rule
from caft.report.sweep.savings import UNIQUE_TOKENS
from caft.report.sweep.schema import (
    ComparisonPart,
    RoutingAnswerPart,
    RoutingPart,
    RoutingTestPart,
    SavingsPart,
)
from caft.report.wording import (
    capitalise,
    count_of,
    name_estimator,
    p_in_words,
    percent,
    points_between,
)
from caft.statistics import ALPHA, Verdict

_TONES = {Verdict.yes.value: Tone.good, Verdict.no.value: Tone.bad}


def find_answers(
    arms: Sequence[Arm],
    comparisons: Sequence[ComparisonPart],
    routing: RoutingPart,
    savings: SavingsPart | None,
) -> list[Headline]:
    """First routing, then the best arm, then savings; as far as there are numbers."""
    of_entropy: RoutingAnswerPart = {
        "estimator": ENTROPY, "verdict": routing["verdict"], "sentence": routing["sentence"]
    }  # fmt: skip
    answers = (of_entropy, *routing["others"])
    found = [_find_routing(answer, routing["tests"]) for answer in answers]
    if arms:
        found.append(find_best(arms, comparisons))
    if savings and len(arms) > 1 and UNIQUE_TOKENS in savings["counts"]:
        found.append(_find_saving(savings, comparisons))
    return found


def _find_routing(answer: RoutingAnswerPart, tests: Sequence[RoutingTestPart]) -> Headline:
    estimator, _, strategy = answer["estimator"].partition(", ")
    named = f"routing by {name_estimator(estimator)}" + (f" ({strategy})" if strategy else "")
    routing = "entropy routing" if answer["estimator"] == ENTROPY else named
    asked = f"Does {routing} beat random routing at an equal budget?"
    word, _, rest = answer["sentence"].partition(": ")
    own = [test for test in tests if name_rule(test) == answer["estimator"]]
    figure = f"{count_of(len(own), 'comparison')} at an equal budget"
    tone = _TONES.get(answer["verdict"], Tone.unclear)
    return Headline(asked, word, figure, capitalise(rest), tone)


class Ranked(Protocol):
    """What a ranking needs of an arm."""

    @property
    def name(self) -> str:
        """Of its setting."""

    @property
    def seeds(self) -> list[int]:
        """Those that it was run with."""

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""


def find_best(arms: Sequence[Ranked], comparisons: Sequence[ComparisonPart]) -> Headline:
    """The most accurate arm, and whether it is clearly ahead of the others."""
    best = max(arms, key=lambda arm: arm.accuracy)
    gaps = [gap for arm in arms if (gap := subtract(best.name, arm.name, comparisons))]
    rivals = [gap["first"] for gap in gaps if not (gap["clear"] and gap["value"] > 0)]
    apart = len(arms) - 1 - len(gaps)
    answer, tone = best.name, Tone.unclear
    if len(arms) == 1:
        detail, tone = "It is the only one so far.", Tone.plain
    elif not gaps:
        detail = "No other setting answered the same test questions by the same engine."
    elif rivals:
        answer, others = "Several are level", _list_names(rivals)
        detail = (
            f"{best.name} comes first, but not clearly ahead of {others}: the order may be chance."
        )
    else:
        whom, tone = "every other setting", Tone.good
        if apart:
            whom = f"the {count_of(len(gaps), 'setting')} that it could be compared with"
            whom += f" ({apart} answered other test questions, or by another engine)"
        detail = f"It is clearly ahead of {whom}, by test and by interval."
    figure = f"{percent(best.accuracy)} over {count_of(len(best.seeds), 'seed')}"
    return Headline("Which setting is the most accurate?", answer, figure, detail, tone)


def _list_names(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def subtract(arm: str, other: str, comparisons: Sequence[ComparisonPart]) -> ComparisonPart | None:
    """The comparison of two arms, as `arm` minus `other`; None if they were not compared."""
    for pair in comparisons:
        if (pair["first"], pair["second"]) == (other, arm):
            return pair
        if (pair["first"], pair["second"]) == (arm, other):
            return {**pair, "first": other, "second": arm, "value": -pair["value"],
                    "low": -pair["high"], "high": -pair["low"]}  # fmt: skip
    return None


def _find_saving(savings: SavingsPart, comparisons: Sequence[ComparisonPart]) -> Headline:
    """The cheapest arm without a shown loss against the arm with most rationales."""
    reference, counts = savings["reference"], savings["counts"]
    asked = f"What can be saved against {reference}?"
    unique = counts[UNIQUE_TOKENS]
    amounts = unique["amounts"]
    cheaper = [arm for arm in amounts if amounts[arm] < amounts[reference]]
    gaps = [gap for arm in cheaper if (gap := subtract(arm, reference, comparisons))]
    level = [gap for gap in gaps if keeps_up(gap)]
    if not level:
        detail = "Every cheaper setting is less accurate, or answered other questions."
        return Headline(asked, "Nothing", "no cheaper setting keeps up", detail, Tone.unclear)
    gap = min(level, key=lambda gap: amounts[gap["second"]])
    mode = f" in {gap['mode']} mode" if gap["mode"] else ""
    shares = {count["name"]: count["saved"][gap["second"]] for count in counts.values()}
    saved = {name: percent(share) for name, share in shares.items() if share is not None}
    return Headline(
        asked,
        f"{saved[unique['name']]} of the {unique['name']}",
        f"with {gap['second']}",
        f"No loss is shown ({points_between(gap)}{mode}, {p_in_words(gap['p_adjusted'])} after "
        "Holm's correction); the interval shows how large a loss may still be hidden. "
        f"Saved by way of counting: {'; '.join(' '.join(item) for item in saved.items())}.",
        Tone.plain,
    )


def keeps_up(gap: ComparisonPart) -> bool:
    """Neither the interval nor the test shows a loss of the second arm."""
    lost = gap["value"] < 0 and gap["p_adjusted"] < ALPHA
    return not lost and gap["high"] > 0


def find_sweep_warnings(sweep: Sweep, arms: Sequence[Arm]) -> list[str]:
    """Warnings that a reader needs before trusting the numbers."""
    left_out = Counter(job.state for job in sweep.jobs if job.state != FINISHED)
    states = ", ".join(f"{number} {state}" for state, number in left_out.items())
    evaluated = [job for job in sweep.jobs if job.result and job.outcomes]
    repeated = len(evaluated) - sum(len(arm.jobs) for arm in arms)
    alone = [arm.name for arm in arms if len(arm.jobs) == 1]
    engines = sorted({engine for arm in arms for engine in arm.engines})
    same_questions = all(share_questions(one, two) for one, two in combinations(arms, 2))
    modes = {mode for arm in arms for mode in arm.modes}
    warnings = (
        (left_out, f"{left_out.total()} of {len(sweep.jobs)} jobs are in no number here: "
         f"{states}."),
        (sweep.superseded, f"{count_of(sweep.superseded, 'earlier job')} left out: with the config "
         "as it is now, the same overrides make other jobs."),
        (repeated, f"{count_of(repeated, 'job')} left out: another one with equal settings and "
         "seed finished later."),
        (alone, f"One seed only: {_list_names(alone)}. Its interval does not cover other seeds, "
         "nor is a difference from it called clear."),
        (not same_questions, "Not all settings answered the same test questions; only those that "
         "did are compared."),
        (len(engines) > 1, f"Replies were written by different engines: {', '.join(engines)}. "
         "Settings are compared only where one engine wrote the replies of both."),
        (len(modes) > 1, "Settings answer in different modes and so spend different tokens a "
         "question; pairs with the same stages, and routing, are compared in one common mode."),
    )  # fmt: skip
    return [text for applies, text in warnings if applies]

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
    LossPart,
    RoutingAnswerPart,
    RoutingPart,
    RoutingTestPart,
    SavingsPart,
)
from caft.report.wording import (
    capitalise,
    count_of,
    list_names,
    name_routing,
    percent,
    points_between,
)
from caft.statistics import FEWEST_SEEDS, Verdict

_TONES = {Verdict.yes.value: Tone.good, Verdict.no.value: Tone.bad}


def find_answers(
    arms: Sequence[Arm],
    comparisons: Sequence[ComparisonPart],
    routing: RoutingPart,
    savings: SavingsPart | None,
) -> list[Headline]:
    """First routing, then the best arm, then savings; as far as there are numbers.

    Of a sweep that tested other rules alone, entropy is no question.
    """
    of_entropy: RoutingAnswerPart = {
        "estimator": ENTROPY, "verdict": routing["verdict"], "sentence": routing["sentence"]
    }  # fmt: skip
    untested = of_entropy["verdict"] == Verdict.undefined.value and routing["others"]
    answers = [*([] if untested else [of_entropy]), *routing["others"]]
    found = [_find_routing(answer, routing["tests"]) for answer in answers]
    if arms:
        found.append(find_best(arms, comparisons))
    if savings:
        found += _find_savings(savings)
    return found


def _find_routing(answer: RoutingAnswerPart, tests: Sequence[RoutingTestPart]) -> Headline:
    rule = answer["estimator"]
    routing = "entropy routing" if rule == ENTROPY else f"routing by {name_routing(rule)}"
    asked = f"Does {routing} beat random routing at an equal budget?"
    word, _, rest = answer["sentence"].partition(": ")
    own = [test for test in tests if name_rule(test) == rule]
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
        answer, others = "No clear winner", list_names(rivals)
        level = all(gap["value"] == 0 for gap in gaps if gap["first"] in rivals)
        detail = (
            f"{best.name} and {others} were right equally often."
            if level
            else f"{best.name} comes first, but not clearly ahead of {others}: the order may be "
            "chance."
        )
    else:
        whom, tone = "every other setting", Tone.good
        if apart:
            whom = f"the {count_of(len(gaps), 'setting')} that it could be compared with"
            whom += f" ({apart} answered other test questions, or by another engine)"
        detail = f"It is clearly ahead of {whom}, by test and by interval."
        compared = {best.name, *(gap["first"] for gap in gaps)}
        if any(len(arm.seeds) < FEWEST_SEEDS for arm in arms if arm.name in compared):
            detail += f" A verdict on other seeds takes {FEWEST_SEEDS} of each."
    figure = f"{percent(best.accuracy)} over {count_of(len(best.seeds), 'seed')}"
    return Headline("Which setting is the most accurate?", answer, figure, detail, tone)


def subtract(arm: str, other: str, comparisons: Sequence[ComparisonPart]) -> ComparisonPart | None:
    """The comparison of two arms, as `arm` minus `other`; None if they were not compared."""
    for pair in comparisons:
        if (pair["first"], pair["second"]) == (other, arm):
            return pair
        if (pair["first"], pair["second"]) == (arm, other):
            return {**pair, "first": other, "second": arm, "value": -pair["value"],
                    "low": -pair["high"], "high": -pair["low"]}  # fmt: skip
    return None


def _find_savings(savings: SavingsPart) -> list[Headline]:
    """An answer for each reference that any arm is tested against."""
    against: dict[str, list[LossPart]] = {}
    for loss in savings["losses"]:
        against.setdefault(savings["references"][loss["arm"]], []).append(loss)
    return [_find_saving(savings, *item) for item in against.items()]


def _find_saving(savings: SavingsPart, reference: str, losses: Sequence[LossPart]) -> Headline:
    """The cheapest arm that is not worse than the reference by the margin."""
    counts = savings["counts"]
    margin = f"{100 * savings['margin']:g} points"
    asked = f"Does a cheaper setting keep up with {reference}?"
    unique = counts[UNIQUE_TOKENS]
    level = [loss for loss in losses if loss["verdict"] == Verdict.yes.value]
    if not level:
        open_ = [loss for loss in losses if loss["verdict"] == Verdict.unclear.value]
        return _say_no_saving(asked, open_ or losses, margin, reference)
    loss = min(level, key=lambda loss: unique["amounts"][loss["arm"]])
    shares = {count["name"]: count["saved"][loss["arm"]] for count in counts.values()}
    saved = {name: percent(share) for name, share in shares.items() if share is not None}
    return Headline(
        asked,
        f"Yes: {loss['arm']}",
        f"{saved[unique['name']]} of the {unique['name']} saved",
        f"A loss of {margin} or more is ruled out: {reference} minus {loss['arm']} is "
        f"{points_between(loss)}{_name_mode(loss)}. "
        f"Saved by way of counting: {'; '.join(' '.join(item) for item in saved.items())}.",
        Tone.good,
    )


def _say_no_saving(asked: str, losses: Sequence[LossPart], margin: str, reference: str) -> Headline:
    """No, or not enough data, by the cheaper arm that may lose least."""
    loss = min(losses, key=lambda loss: loss["high"])
    text = f"{reference} minus {loss['arm']} is {points_between(loss)}{_name_mode(loss)}"
    if loss["verdict"] == Verdict.no.value:
        detail = f"Every cheaper setting is less accurate; the nearest: {text}."
        return Headline(asked, "No", "no cheaper setting keeps up", detail, Tone.bad)
    if loss["seeds"] < FEWEST_SEEDS:
        text += f"; fewer than {FEWEST_SEEDS} seeds say nothing about other seeds"
    detail = f"No cheaper setting rules out a loss of {margin} or more; the nearest: {text}."
    return Headline(asked, "Not enough data", "no saving is shown", detail, Tone.unclear)


def _name_mode(loss: LossPart) -> str:
    return f" in {loss['mode']} mode" if loss["mode"] else ""


def _config_of(arm: Arm) -> tuple[tuple[tuple[str, str], ...], str]:
    return tuple(arm.settings.items()), arm.jobs[0].fix()


def find_sweep_warnings(
    sweep: Sweep, arms: Sequence[Arm], tests: Sequence[RoutingTestPart]
) -> list[str]:
    """Warnings that a reader needs before trusting the numbers; `tests` are those of routing."""
    left_out = Counter(job.state for job in sweep.jobs if job.state != FINISHED)
    states = ", ".join(f"{number} {state}" for state, number in left_out.items())
    evaluated = [job for job in sweep.jobs if job.result and job.outcomes]
    repeated = len(evaluated) - sum(len(arm.jobs) for arm in arms)
    alone = [arm.name for arm in arms if len(arm.jobs) == 1]
    engines = sorted({engine for arm in arms for engine in arm.engines})
    same_questions = all(share_questions(one, two) for one, two in combinations(arms, 2))
    of_config = Counter(map(_config_of, arms))
    of_settings = Counter(settings for settings, _ in of_config)
    parted = [arm.name for arm in arms if of_config[_config_of(arm)] > 1]
    edited = [arm.name for arm in arms if of_settings[_config_of(arm)[0]] > 1]
    told = {*parted, *edited}
    alike = [arm.name for arm in arms if arm.name != arm.plain_name and arm.name not in told]
    modes = {mode for arm in arms for mode in arm.modes}
    tested = {test["second"] for test in tests}
    rescored = [
        f"{arm.name} (split.pool={arm.mean_cost('taught'):.0f})"
        for arm in arms
        if arm.rescores and not arm.is_random and arm.name not in tested and arm.mean_cost("taught")
    ]
    warnings = (
        (left_out, f"{left_out.total()} of {len(sweep.jobs)} jobs are in no number here: "
         f"{states}."),
        (sweep.superseded, f"{count_of(sweep.superseded, 'earlier job')} left out: with the config "
         "as it is now, the same overrides make other jobs."),
        (repeated, f"{count_of(repeated, 'job')} left out: another one with equal settings and "
         "seed finished later."),
        (alone, f"One seed only: {list_names(alone)}. The interval does not cover other seeds, "
         "nor is a difference from it called clear."),
        (not same_questions, "Not all settings answered the same test questions; only those that "
         "did are compared."),
        (edited, "Jobs of equal overrides have different configs, and are settings of their own: "
         f"{list_names(edited)}. Was a file of the config edited between two starts?"),
        (parted, "Jobs of equal settings answered different test questions, and are settings of "
         f"their own: {list_names(parted)}. Was a data file edited between two starts?"),
        (alike, f"Named like another setting, and numbered: {list_names(alike)}. An option left "
         "to its default is not taken for the same one written out."),
        (len(engines) > 1, f"Replies were written by different engines: {', '.join(engines)}. "
         "Settings are compared only where one engine wrote the replies of both."),
        (rescored, f"Not tested against random routing: {list_names(rescored)}, whose classes "
         "are made anew. How many questions that asks a teacher for is known only at the end: run "
         "the same method with split=random and the split.pool given here, whose classes move on "
         "at random."),
        (len(modes) > 1, "Settings answer in different modes and so spend different tokens a "
         "question; pairs with the same stages, and routing, are compared in one common mode."),
    )  # fmt: skip
    return [text for applies, text in warnings if applies]

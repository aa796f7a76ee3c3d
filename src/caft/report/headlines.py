"""The findings of a run, in sentences that page and terminal share, in the order of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from caft.report.comparison import best_mode, best_result, results_by_mode
from caft.report.forgetting import NOT_TUNED, describe_change, find_worst
from caft.report.parts import ForgettingPart
from caft.report.run.cost import spent_usd
from caft.report.run.estimate_verdict import (
    count_rarer,
    is_reversed,
    judge_estimate,
    main_area,
)
from caft.report.run.next_step import (
    compare_with_control,
    repeat_with_seeds,
)
from caft.report.run.timing import count_seconds
from caft.report.schema import (
    Accuracy,
    AccuracyPart,
    Comparison,
    CostPart,
    ScorePart,
    StageRecordPart,
    Summary,
    drawn_at_random,
)
from caft.report.wording import (
    MODES_IN_WORDS,
    area_between,
    capitalise,
    count_of,
    duration,
    name_estimator,
    p_in_words,
    percent,
    percent_between,
    points_between,
    reason_of,
    short_count,
    tell_batches,
    usd,
)
from caft.statistics import ALPHA, CHANCE_AREA, FEWEST_TO_JUDGE, WORTHWHILE_GAIN, Verdict

_STRONG_AREA = 0.65
_HOW_TO_TEACH = (
    "To compare them, give a teacher, teacher=openai teacher.model=MODEL teacher.base_url=URL, or "
    "in your own data the column of worked solutions: dataset.columns.rationale=NAME."
)


class Tone(Enum):
    """The colour of a headline; its text says the same."""

    good = "good"
    bad = "bad"
    unclear = "unclear"
    plain = "plain"


@dataclass(frozen=True, slots=True)
class Headline:
    """One finding: the question, the answer, and the numbers it rests on.

    `command` would answer what this run cannot; empty where the run has answered. `brief` is the
    detail in one line of a terminal.
    """

    asked: str
    answer: str
    figure: str
    detail: str
    tone: Tone
    command: str = ""
    brief: str = ""


_TONES = {Verdict.yes: Tone.good, Verdict.no: Tone.bad}
UNDEFINED = "Undefined"


def find_headlines(summary: Summary) -> tuple[Headline, ...]:
    """Tuning, forgetting, routing, the estimate, and the cost, in this order; as far as known."""
    headlines = (
        _did_tuning_help(summary.get("accuracy")),
        _did_tuning_forget(summary.get("forgetting")),
        _did_routing_help(summary),
        _does_estimate_predict(summary.get("score")),
        _what_did_it_cost(summary),
    )
    return tuple(headline for headline in headlines if headline)


# Tuning


@dataclass(frozen=True, slots=True)
class Gain:
    """Tuned minus base in one mode, which is the tuned model's best on validation questions.

    `best` is tuned minus base, each in its best mode; None where that is the same mode.
    """

    mode: str
    base: Accuracy
    tuned: Accuracy
    difference: Comparison
    best: Comparison | None

    @property
    def harmed(self) -> bool:
        """Whether the tuned model is clearly less accurate than the base model in the same mode."""
        return _is_loss(self.difference)

    @property
    def lost_to_best(self) -> bool:
        """Whether the base model in its own best mode is clearly more accurate."""
        return self.best is not None and _is_loss(self.best)

    @property
    def verdict(self) -> Verdict:
        """By McNemar's test and the paired interval."""
        if self.harmed or self.lost_to_best:
            return Verdict.no
        if self.difference["p_value"] < ALPHA and self.difference["low"] > 0:
            return Verdict.yes
        return Verdict.no if self.difference["high"] < WORTHWHILE_GAIN else Verdict.unclear


def _is_loss(difference: Comparison) -> bool:
    return difference["p_value"] < ALPHA and difference["high"] < 0


def find_gain(accuracy: AccuracyPart | None) -> Gain | None:
    """That of tuning; None where the run did not tune, or evaluated one model alone."""
    mode = best_mode(accuracy, "tuned")
    base = results_by_mode(accuracy, "base").get(mode or "")
    tuned = results_by_mode(accuracy, "tuned").get(mode or "")
    if accuracy is None or mode is None or base is None or tuned is None:
        return None
    chosen = best_mode(accuracy, "base")
    best = accuracy.get("comparison") if chosen not in (mode, None) else None
    return Gain(mode, base, tuned, accuracy["same_mode"][mode], best)


def _did_tuning_help(accuracy: AccuracyPart | None) -> Headline | None:
    gain = find_gain(accuracy)
    if accuracy is None or gain is None:
        return None
    answer, tone = _answer_gain(gain)
    parts = [
        f"Both in {gain.mode} mode ({MODES_IN_WORDS[gain.mode]}), on the same "
        f"{count_of(gain.difference['n'], 'question')}: "
        f"{points_between(gain.difference)}, {p_in_words(gain.difference['p_value'])}"
    ]
    if (chance := accuracy.get("chance")) is not None:
        parts.append(f"Chance, one of the allowed answers at random, is {percent(chance)}")
    compared, best, chosen = gain.base, best_result(accuracy, "base"), best_mode(accuracy, "base")
    if best and chosen != gain.mode:
        told = f"The base model's best mode is {chosen}: {percent_between(best)}"
        if gain.best:
            told += f", tuned minus that {points_between(gain.best)}"
        parts.append(told)
        compared = best if gain.lost_to_best else compared
    return Headline(
        "Did tuning help?",
        answer,
        f"{percent(compared['value'])} → {percent(gain.tuned['value'])}",
        "".join(f"{part}. " for part in parts).rstrip(),
        tone,
        brief=_write_gain_briefly(gain, chance),
    )


def _answer_gain(gain: Gain) -> tuple[str, Tone]:
    if gain.harmed:
        return "No, it did harm", Tone.bad
    if gain.lost_to_best:
        return "No, the base model's best mode is clearly better", Tone.bad
    if gain.verdict is Verdict.yes and gain.best and gain.best["low"] <= 0:
        return f"Yes, in {gain.mode} mode alone", Tone.unclear
    return capitalise(gain.verdict.value), _TONES.get(gain.verdict, Tone.unclear)


def _write_gain_briefly(gain: Gain, chance: float | None) -> str:
    points, p = points_between(gain.difference), p_in_words(gain.difference["p_value"])
    told = f"{points}, {p}, n={gain.difference['n']:,}, {gain.mode} mode"
    if gain.best:
        told += f"; minus the base's best mode {points_between(gain.best)}"
    return told + ("" if chance is None else f"; chance {percent(chance)}")


def _did_tuning_forget(part: ForgettingPart | None) -> Headline | None:
    if part is None:
        return None
    worst, verdict = find_worst(part), Verdict(part["verdict"])
    asked, answer = "Did tuning make the model forget?", capitalise(verdict.value)
    sets = count_of(len({test["dataset"] for test in part["tests"]}), "further set")
    if worst is None or (change := worst["change"]) is None:
        return Headline(asked, answer, sets, f"{capitalise(NOT_TUNED)}.", Tone.unclear)
    where = f"{worst['dataset']}, {worst['mode']} mode"
    found = f"{where}: {describe_change(change)}"
    margin = f"{100 * part['margin']:g} points"
    why = f" ({worst['reason']})" if worst["reason"] else ""
    count = sum(test["verdict"] == worst["verdict"] for test in part["tests"])
    lowest = f", the lowest of {count} with this verdict" if count > 1 else ""
    tones = {Verdict.yes: Tone.bad, Verdict.no: Tone.good}
    return Headline(
        asked,
        answer,
        f"{100 * change['value']:+.1f} points, {worst['dataset']}",
        f"Tuned minus base{lowest}: {found}{why}. Yes is a clear loss (p after Holm); no, that a "
        f"loss of {margin} or more is ruled out (non-inferiority).",
        tones.get(verdict, Tone.unclear),
        brief=f"{found}{why}; margin {margin}",
    )


# Routing


def _did_routing_help(summary: Summary) -> Headline | None:
    """Never answered by one run: what was tuned on random classes is not known."""
    split, accuracy = summary.get("split"), summary.get("accuracy")
    if not split or not accuracy or not accuracy.get("tuned"):
        return None
    asked, answer = "Did routing help?", "Not tested here"
    classes = ", ".join(split["counts"])
    if not routes_by_class(summary):
        command = compare_methods(summary)
        return Headline(
            asked, answer, "no routing",
            f"Routing trains a question by its class ({classes}), and this method trains all "
            f"classes alike. {'To compare:' if command else _HOW_TO_TEACH}",
            Tone.plain, command,
        )  # fmt: skip
    if drawn_at_random(split["strategy"]):
        figure = "this run is the control"
        detail = f"Its classes ({classes}) were drawn at random. To compare it with routing:"
    else:
        figure = "no control"
        detail = (
            f"Routing trains a question by its class ({classes}), which {_name_rule(summary)} "
            "decides. Only classes drawn at random show whether that helps. To test it:"
        )
    command = compare_with_control(summary)
    return Headline(asked, answer, figure, detail, Tone.unclear, command, "To test it:")


def _name_rule(summary: Summary) -> str:
    score = summary.get("score")
    return name_estimator(score["estimator"]) if score else "an estimate"


def compare_methods(summary: Summary) -> str:
    """The command that trains the questions by a method that routes and by two that do not.

    Empty where the run's teacher could write nothing for two of them.
    """
    if summary["method"].get("untaught"):
        return ""
    return repeat_with_seeds(summary, "method=sft,distill,complexity_aware")


def routes_by_class(summary: Summary) -> bool:
    """Whether training treats the classes differently."""
    split = summary.get("split")
    classes = set(split["counts"]) if split else set()
    return any(
        len(set(stage["targets"].values())) > 1 or set(stage["targets"]) != classes
        for stage in summary["method"]["stages"]
    )


# The estimate


def _does_estimate_predict(score: ScorePart | None) -> Headline | None:
    area = main_area(score)
    if score is None or area is None:
        return None
    asked = f"Does {name_estimator(score['estimator'])} predict this model's mistakes?"
    verdict, value = judge_estimate(area), area["value"]
    if verdict is None or value is None:
        figure = "one class only" if area["n"] else "no scores"
        return Headline(asked, UNDEFINED, figure, f"{capitalise(reason_of(area))}.", Tone.unclear)
    answer, tone = capitalise(verdict.value), _TONES.get(verdict, Tone.unclear)
    if is_reversed(area):
        answer = "No, it is reversed"
    elif verdict is Verdict.yes and value < _STRONG_AREA:
        answer, tone = "Yes, weakly", Tone.unclear
    detail = (
        f"ROC AUC {area_between(area)} on {count_of(area['n'], 'training question')}, "
        f"{area['incorrect']:,} answered incorrectly; {CHANCE_AREA} is chance, 1 is perfect."
    )
    if count_rarer(area) < FEWEST_TO_JUDGE:
        detail += f" Fewer than {FEWEST_TO_JUDGE} of a kind prove nothing."
    within = score.get("within_subjects")
    if within and within["value"] is not None:
        detail += f" Within subjects {area_between(within)}."
        if verdict is Verdict.yes and judge_estimate(within) is not Verdict.yes:
            answer, tone = "Yes, but not within subjects", Tone.unclear
    brief = f"ROC AUC {area_between(area)}, n={area['n']:,}"
    if within and within["value"] is not None:
        brief += f"; within subjects {area_between(within)}"
    return Headline(asked, answer, f"AUC {value:.2f}", detail, tone, brief=brief)


# The cost


def _what_did_it_cost(summary: Summary) -> Headline | None:
    cost = summary.get("cost")
    if not cost:
        return None
    stages = summary.get("stages") or []
    calls = count_of(cost["teacher_calls"], "teacher call") + tell_batches(cost)
    if cost.get("judge_calls"):
        calls += f", {count_of(cost['judge_calls'], 'judge call')}"
    figure = f"{usd(spent_usd(cost))} · {duration(count_seconds(stages))}"
    return Headline(
        "What did it cost?",
        calls,
        figure,
        _describe_cost(cost, stages),
        Tone.plain,
        brief=_count_tokens(cost),
    )


def _describe_cost(cost: CostPart, stages: Sequence[StageRecordPart]) -> str:
    parts = [_count_tokens(cost)]
    if cost["teacher_calls"]:
        parts.insert(0, "The teacher is the model that was asked for rationales")
    if unsure := cost.get("unsure_usd"):
        parts.append(f"Up to {usd(unsure)} more may be charged for calls that brought no reply")
    if tries := cost.get("own_rationale_tries"):
        tokens = short_count(cost["own_rationale_tokens"])
        parts.append(f"{count_of(tries, 'own chain')} sampled ({tokens} tokens), no teacher call")
    if cached := sum(1 for stage in stages if stage["cached"]):
        parts.append(f"{cached} of {count_of(len(stages), 'stage')} cached")
    return "".join(f"{part}. " for part in parts).rstrip()


def _count_tokens(cost: CostPart) -> str:
    if not cost["trained_total_tokens"] and not cost["evaluation_generated_tokens"]:
        return "Nothing was trained or evaluated"
    return (
        f"{short_count(cost['trained_response_tokens'])} response tokens trained "
        f"({short_count(cost['trained_total_tokens'])} with prompts), "
        f"{short_count(cost['evaluation_generated_tokens'])} generated in evaluation"
    )

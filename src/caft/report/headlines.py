"""What a run found, in sentences. The page and the terminal say the same, from the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from caft.estimators import ESTIMATORS, Estimator
from caft.report.comparison import best_mode, best_result
from caft.report.wording import (
    area_between,
    count_of,
    duration,
    name_estimator,
    p_in_words,
    percent,
    percent_between,
    points_between,
    short_count,
    usd,
)
from caft.statistics import ALPHA
from caft.teachers.refusals import OVER_BUDGET, WRONG, advise, list_reasons

LOW_OPTION_MASS = 0.5
LOW_VALID_RATE = 0.9
MANY_UNPARSABLE = 0.1
_NAMED = 5


class Tone(Enum):
    """How a finding is coloured; its words say the same."""

    good = "good"
    bad = "bad"
    unclear = "unclear"
    plain = "plain"


@dataclass(frozen=True, slots=True)
class Headline:
    """One thing that a person wants to know: what was asked, the answer, what it rests on."""

    asked: str
    answer: str
    figure: str
    detail: str
    tone: Tone


def find_headlines(
    summary: Mapping[str, Any], comparison: Mapping[str, Any] | None = None
) -> tuple[Headline, ...]:
    """Did tuning help, does the estimate predict mistakes, what did it cost; as far as is known."""
    accuracy = summary.get("accuracy") or {}
    comparison = accuracy.get("comparison") or comparison
    found = [
        _find_gain(accuracy, comparison),
        _find_prediction(summary.get("score")),
        _find_cost(summary),
    ]
    return tuple(finding for finding in found if finding is not None)


def _find_gain(
    accuracy: Mapping[str, Any], comparison: Mapping[str, Any] | None
) -> Headline | None:
    base, tuned = best_result(accuracy, "base"), best_result(accuracy, "tuned")
    if base is None or tuned is None:
        return None
    tone = _judge_gain(base, tuned, comparison)
    answer = {
        Tone.good: "Tuning helped",
        Tone.bad: "Tuning did harm",
        Tone.unclear: "No clear difference",
    }[tone]
    detail = (
        f"Base {percent_between(base)} in {best_mode(accuracy, 'base')} mode, tuned "
        f"{percent_between(tuned)} in {best_mode(accuracy, 'tuned')} mode."
    )
    if comparison:
        detail += (
            f" On the same {count_of(comparison['n'], 'question')}: "
            f"{points_between(comparison)}, {p_in_words(comparison['p_value'])}."
        )
    figure = f"{percent(base['value'])} → {percent(tuned['value'])}"
    return Headline("Did tuning help?", answer, figure, detail, tone)


def _judge_gain(
    base: Mapping[str, Any], tuned: Mapping[str, Any], comparison: Mapping[str, Any] | None
) -> Tone:
    if comparison:
        clear, gain = comparison["p_value"] < ALPHA, comparison["value"]
    else:
        clear = tuned["low"] > base["high"] or tuned["high"] < base["low"]
        gain = tuned["value"] - base["value"]
    if not clear:
        return Tone.unclear
    return Tone.good if gain > 0 else Tone.bad


def _find_prediction(score: Mapping[str, Any] | None) -> Headline | None:
    area = main_area(score)
    if score is None or area is None:
        return None
    name = name_estimator(score["estimator"])
    asked = f"Does {name} predict this model's mistakes?"
    if area["value"] is None:
        return Headline(asked, "Cannot be told", "no AUC", f"{_sentence(area)}", Tone.unclear)
    answer, tone = _judge_area(area)
    detail = (
        f"ROC AUC {area_between(area)} on {count_of(area['n'], 'training question')}, "
        f"{area['incorrect']:,} of them answered wrong. 0.5 is a coin toss, 1 is perfect."
    )
    return Headline(asked, answer, f"AUC {area['value']:.2f}", detail, tone)


def _judge_area(area: Mapping[str, Any]) -> tuple[str, Tone]:
    if area["low"] > 0.5:
        return ("Yes", Tone.good) if area["value"] >= 0.65 else ("Weakly", Tone.unclear)
    return ("It points the wrong way", Tone.bad) if area["high"] < 0.5 else ("No", Tone.bad)


def _sentence(area: Mapping[str, Any]) -> str:
    return f"{_capital(area.get('reason') or 'no reason was recorded')}."


def main_area(score: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The AUC of the estimator that the split goes by."""
    if not score:
        return None
    area: Mapping[str, Any] | None = score["roc_auc"].get(score["estimator"])
    return area


def _find_cost(summary: Mapping[str, Any]) -> Headline | None:
    cost = summary.get("cost")
    if not cost:
        return None
    stages = summary.get("stages") or []
    seconds = sum(stage["seconds"] for stage in stages if not stage["cached"])
    cached = sum(1 for stage in stages if stage["cached"])
    calls = count_of(cost["teacher_calls"], "teacher call")
    if cost.get("judge_calls"):
        calls += f", {count_of(cost['judge_calls'], 'judge call')}"
    detail = (
        f"{short_count(cost['trained_response_tokens'])} response tokens trained "
        f"({short_count(cost['trained_total_tokens'])} with prompts), "
        f"{short_count(cost['evaluation_generated_tokens'])} generated in evaluation."
    )
    if cached:
        detail += f" {count_of(cached, 'stage')} of {len(stages)} taken from the store."
    spent = cost["teacher_usd"] + cost.get("judge_usd", 0.0)
    figure = f"{usd(spent)} · {duration(seconds)}"
    return Headline("What did it cost?", calls, figure, detail, Tone.plain)


def find_warnings(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader must know before believing the numbers."""
    return (
        *_warn_of_score(summary.get("score")),
        *_warn_of_classes(summary.get("split")),
        *_warn_of_refused_replies(summary.get("cost") or {}),
        *_warn_of_dropped_rows(summary),
        *_warn_of_replies(summary.get("accuracy") or {}),
    )


def _warn_of_score(score: Mapping[str, Any] | None) -> list[str]:
    if not score:
        return []
    mass, valid = score.get("option_mass"), score.get("valid_answer_rate")
    low = []
    if mass is not None and mass < LOW_OPTION_MASS:
        low.append(f"only {percent(mass)} of the probability lies on the allowed answers")
    if valid is not None and valid < LOW_VALID_RATE:
        low.append(f"only {percent(valid)} of the one-token replies are allowed answers")
    warnings = _warn_of_source(score) + _warn_of_area(score["estimator"], main_area(score))
    if estimator_of(score).circular:
        warnings.append(
            f"{_capital(name_estimator(score['estimator']))} has looked at the gold answers: its "
            "AUC proves nothing, and a split by it is an oracle's."
        )
    if low:
        said = " and ".join(low)
        warnings.append(f"{_capital(said)}: the format, not the knowledge, is being measured.")
    return warnings


def estimator_of(score: Mapping[str, Any]) -> Estimator:
    """The estimator that the split goes by."""
    return ESTIMATORS.get(score["estimator"]) or Estimator(name=score["estimator"], title="")


def _warn_of_source(score: Mapping[str, Any]) -> list[str]:
    if score.get("source") != "published":
        return []
    return ["Entropies and answers are published ones, of whoever's model made them, not this one."]


def _warn_of_area(estimator: str, area: Mapping[str, Any] | None) -> list[str]:
    if area is None:
        return []
    name = _capital(name_estimator(estimator))
    if area["value"] is None:
        reason = area.get("reason") or "no reason was recorded"
        return [f"{name} has no ROC AUC: {reason}. Nothing says that routing by it makes sense."]
    found = f"AUC {area['value']:.3f}, interval {area['low']:.3f} to {area['high']:.3f}"
    if area["high"] < 0.5:
        return [f"{name} points the wrong way ({found}): the model errs where it looks sure."]
    if area["low"] <= 0.5:
        return [f"{name} does not predict mistakes here ({found}); routing by it is a coin toss."]
    return []


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _warn_of_classes(split: Mapping[str, Any] | None) -> list[str]:
    if not split:
        return []
    counts = split["counts"].items()
    warnings = [f"The class {name} holds no training question." for name, n in counts if n == 0]
    if split.get("held_out_by"):
        warnings.append(
            "The split's estimator does not exist for validation and test questions: they are "
            f"placed by {name_estimator(split['held_out_by'])}, at the training classes' shares."
        )
    if split.get("unreadable"):
        warnings.append(
            f"{count_of(split['unreadable'], 'question')} without a readable estimate "
            f"{'is' if split['unreadable'] == 1 else 'are'} placed in {list(split['counts'])[-1]}."
        )
    return warnings


def _warn_of_refused_replies(cost: Mapping[str, Any]) -> list[str]:
    counts = cost.get("teacher_refused") or {}
    mendable = [reason for reason in counts if reason not in (WRONG, OVER_BUDGET)]
    if not counts:
        return []
    told = f"Replies of the teacher that were not trained on: {list_reasons(counts)}."
    return [f"{told} {mendable[0]}: {advise(mendable[0])}." if mendable else told]


def _warn_of_dropped_rows(summary: Mapping[str, Any]) -> list[str]:
    stages = (summary.get("method") or {}).get("stages") or []
    return [
        f"Stage {number} trained {count_of(stage['examples'], 'row')}; {tuned['dropped']:,} more "
        f"{'was' if tuned['dropped'] == 1 else 'were'} too long and left out: "
        f"{_name_some(tuned['dropped_ids'])}."
        for number, (stage, tuned) in enumerate(
            zip(stages, summary.get("tuning") or [], strict=False), start=1
        )
        if tuned.get("dropped")
    ]


def _name_some(ids: Sequence[str]) -> str:
    more = len(ids) - _NAMED
    named = ", ".join(ids[:_NAMED])
    return f"{named} and {more:,} more, all in summary.json" if more > 0 else named


def _warn_of_replies(accuracy: Mapping[str, Any]) -> list[str]:
    unread = [
        f"{result['unparsable']:,} of {result['n']:,} of the {who} model in {mode} mode"
        for who in ("base", "tuned")
        for mode, result in (accuracy.get(who) or {}).items()
        if result and result["unparsable"] > MANY_UNPARSABLE * result["n"]
    ]
    if not unread:
        return []
    return [f"Replies without a readable answer, each counted as wrong: {', '.join(unread)}."]


def suggest_next(summary: Mapping[str, Any], comparison: Mapping[str, Any] | None = None) -> str:
    """The most useful next step from here, in at most 72 characters."""
    area, accuracy = main_area(summary.get("score")), summary.get("accuracy") or {}
    if area is not None and area["value"] is None:
        return "Take questions of which the model gets some right and some wrong."
    if area is not None and area["low"] <= 0.5:
        return "Try more training questions, more prompt shots or another estimator."
    base, tuned = best_result(accuracy, "base"), best_result(accuracy, "tuned")
    if base is None or tuned is None:
        return "dry_run=true says what the stages after this one would cost."
    tone = _judge_gain(base, tuned, accuracy.get("comparison") or comparison)
    return {
        Tone.bad: "Read the replies in the report, and try a lower tuning.learning_rate.",
        Tone.unclear: "More test questions or more epochs would show a smaller difference.",
        Tone.good: _ask_about_routing(summary),
    }[tone]


def _ask_about_routing(summary: Mapping[str, Any]) -> str:
    if routes_by_class(summary):
        return "Is it the routing? Rerun with -m split=entropy,random seed=1,2,3"
    return "Is routing better? Rerun with -m method=sft,distill,complexity_aware"


def routes_by_class(summary: Mapping[str, Any]) -> bool:
    """Whether the method treats classes differently."""
    stages = (summary.get("method") or {}).get("stages") or []
    classes = set((summary.get("split") or {}).get("counts") or {})
    return any(
        len(set(stage["targets"].values())) > 1 or set(stage["targets"]) != classes
        for stage in stages
    )

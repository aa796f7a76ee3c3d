"""The findings of a run, in sentences that page and terminal share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from caft.report.comparison import best_mode, best_result, find_comparison, results_by_mode
from caft.report.run.rationales import warn_of_chance
from caft.report.run.thinking import warn_of_thinking
from caft.report.schema import (
    MODELS,
    Accuracy,
    AccuracyPart,
    Area,
    Comparison,
    CostPart,
    ScorePart,
    SplitPart,
    Summary,
)
from caft.report.wording import (
    area_between,
    capitalise,
    count_of,
    describe_estimator,
    duration,
    name_estimator,
    p_in_words,
    percent,
    percent_between,
    points_between,
    reason_of,
    short_count,
    usd,
)
from caft.statistics import ALPHA
from caft.teachers.refusals import OVER_BUDGET, WRONG, advise, list_reasons

LOW_OPTION_MASS = 0.5
LOW_VALID_RATE = 0.9
MANY_UNPARSABLE = 0.1
_STRONG_AREA = 0.65
_NAMED = 5


class Tone(Enum):
    """The colour of a headline; its text says the same."""

    good = "good"
    bad = "bad"
    unclear = "unclear"
    plain = "plain"


@dataclass(frozen=True, slots=True)
class Headline:
    """One finding: the question, the answer, and the numbers it rests on."""

    asked: str
    answer: str
    figure: str
    detail: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class _Judgement:
    """The answer to a question, with its warning and the next step."""

    answer: str
    tone: Tone
    advice: str = ""
    warning: str = ""


_MORE = "Try more training questions, more prompt shots or another estimator."
_NO_AREA = _Judgement(
    "Unknown", Tone.unclear, "Use questions of which the model gets some right and some wrong.",
    "has no ROC AUC: {}. Nothing shows that routing by it makes sense.")  # fmt: skip
_PREDICTS = _Judgement("Yes", Tone.good)
_PREDICTS_WEAKLY = _Judgement("Weakly", Tone.unclear)
_PREDICTS_NOTHING = _Judgement(
    "No", Tone.bad, _MORE,
    "does not predict mistakes here ({}); routing by it is a coin toss.")  # fmt: skip
_REVERSED = _Judgement(
    "It points the wrong way", Tone.bad, _MORE,
    "points the wrong way ({}): the model errs where it looks sure.")  # fmt: skip
_HELPED = _Judgement("Tuning helped", Tone.good)
_HARMED = _Judgement(
    "Tuning did harm", Tone.bad,
    "Read the replies in the report, and try a lower tuning.learning_rate.")  # fmt: skip
_NO_DIFFERENCE = _Judgement(
    "No clear difference", Tone.unclear,
    "More test questions or more epochs would show a smaller difference.")  # fmt: skip


def find_headlines(summary: Summary, comparison: Comparison | None = None) -> tuple[Headline, ...]:
    """Did tuning help? Does the estimate predict mistakes? What did it cost? As far as known."""
    headlines = (
        _did_tuning_help(summary.get("accuracy"), comparison or find_comparison(summary)),
        _does_estimate_predict(summary.get("score")),
        _what_did_it_cost(summary),
    )
    return tuple(headline for headline in headlines if headline)


def _did_tuning_help(
    accuracy: AccuracyPart | None, comparison: Comparison | None
) -> Headline | None:
    base, tuned = best_result(accuracy, "base"), best_result(accuracy, "tuned")
    if base is None or tuned is None:
        return None
    judged = _judge_gain(base, tuned, comparison)
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
    return Headline("Did tuning help?", judged.answer, figure, detail, judged.tone)


def _judge_gain(base: Accuracy, tuned: Accuracy, comparison: Comparison | None) -> _Judgement:
    if comparison:
        clear, gain = comparison["p_value"] < ALPHA, comparison["value"]
    else:
        clear = tuned["low"] > base["high"] or tuned["high"] < base["low"]
        gain = tuned["value"] - base["value"]
    if not clear:
        return _NO_DIFFERENCE
    return _HELPED if gain > 0 else _HARMED


def _does_estimate_predict(score: ScorePart | None) -> Headline | None:
    area = main_area(score)
    if score is None or area is None:
        return None
    asked = f"Does {name_estimator(score['estimator'])} predict this model's mistakes?"
    judged = _judge_area(area)
    if area["value"] is None:
        detail = f"{capitalise(reason_of(area))}."
        return Headline(asked, judged.answer, "no AUC", detail, judged.tone)
    detail = (
        f"ROC AUC {area_between(area)} on {count_of(area['n'], 'training question')}, "
        f"{area['incorrect']:,} of them answered wrong. 0.5 is a coin toss, 1 is perfect."
    )
    return Headline(asked, judged.answer, f"AUC {area['value']:.2f}", detail, judged.tone)


def _judge_area(area: Area) -> _Judgement:
    value, low, high = area["value"], area["low"], area["high"]
    if value is None or low is None or high is None:
        return _NO_AREA
    if low > 0.5:
        return _PREDICTS if value >= _STRONG_AREA else _PREDICTS_WEAKLY
    return _REVERSED if high < 0.5 else _PREDICTS_NOTHING


def main_area(score: ScorePart | None) -> Area | None:
    """The AUC of the estimator that the split uses."""
    return score["roc_auc"].get(score["estimator"]) if score else None


def _what_did_it_cost(summary: Summary) -> Headline | None:
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
    if tries := cost.get("own_rationale_tries"):
        tokens = short_count(cost["own_rationale_tokens"])
        detail += f" {count_of(tries, 'own chain')} drawn ({tokens} tokens) without a teacher."
    if cached:
        detail += f" {count_of(cached, 'stage')} of {len(stages)} taken from the store."
    spent = cost["teacher_usd"] + cost.get("judge_usd", 0.0)
    figure = f"{usd(spent)} · {duration(seconds)}"
    return Headline("What did it cost?", calls, figure, detail, Tone.plain)


def find_warnings(summary: Summary) -> tuple[str, ...]:
    """Warnings that a reader needs before trusting the numbers."""
    score, split = summary.get("score"), summary.get("split")
    return (
        *(_warn_of_score(score) if score else ()),
        *(_warn_of_classes(split) if split else ()),
        *_warn_of_refused_replies(summary.get("cost")),
        *warn_of_chance(summary.get("cost")),
        *_warn_of_dropped_rows(summary),
        *_warn_of_unreadable_replies(summary.get("accuracy")),
        *_warn_of_lost_classes(summary.get("accuracy")),
        *warn_of_thinking(summary),
    )


def _warn_of_score(score: ScorePart) -> Iterator[str]:
    estimator, area = describe_estimator(score["estimator"]), main_area(score)
    name = capitalise(estimator.title)
    if score.get("source") == "published":
        yield "Entropies and answers are those of the publisher's model, not of this one."
    if area and (warning := _judge_area(area).warning):
        yield f"{name} {warning.format(_write_area(area))}"
    if estimator.circular:
        yield (
            f"{name} uses the gold answers: its AUC proves nothing, and a split by it is "
            "an oracle's."
        )
    if estimator.needs_labels:
        yield (
            f"{name} is fitted on gold answers of the training questions. Each of them is judged "
            "by a probe that was fitted without it, so that the AUC is not circular."
        )
    for follow_up, share in (score.get("follow_up_mass") or {}).items():
        if share < LOW_OPTION_MASS:
            yield (
                f"{capitalise(describe_estimator(follow_up).title)}: only {percent(share)} of the "
                "probability is on the allowed replies: the format, not the confidence, is "
                "being measured."
            )
    mass, valid = score.get("option_mass"), score.get("valid_answer_rate")
    low = []
    if mass is not None and mass < LOW_OPTION_MASS:
        low.append(f"only {percent(mass)} of the probability is on the allowed answers")
    if valid is not None and valid < LOW_VALID_RATE:
        low.append(f"only {percent(valid)} of the one-token replies are allowed answers")
    if low:
        yield (
            f"{capitalise(' and '.join(low))}: the format, not the knowledge, is being measured."
        )


def _write_area(area: Area) -> str:
    if area["value"] is None:
        return reason_of(area)
    return f"AUC {area['value']:.3f}, interval {area['low']:.3f} to {area['high']:.3f}"


def _warn_of_classes(split: SplitPart) -> Iterator[str]:
    for name, count in split["counts"].items():
        if count == 0:
            yield f"The class {name} holds no training question."
    stand_in, unreadable = split.get("held_out_by"), split.get("unreadable")
    if stand_in:
        yield (
            "The split's estimator does not exist for validation and test questions: they are "
            f"placed by {name_estimator(stand_in)}, at the training classes' shares."
        )
    if unreadable:
        yield (
            f"{count_of(unreadable, 'question')} without a readable estimate "
            f"{'is' if unreadable == 1 else 'are'} placed in {list(split['counts'])[-1]}."
        )


def _warn_of_refused_replies(cost: CostPart | None) -> Iterator[str]:
    counts = cost.get("teacher_refused") if cost else None
    if not counts:
        return
    fixable = [reason for reason in counts if reason not in (WRONG, OVER_BUDGET)]
    advice = f" {fixable[0]}: {advise(fixable[0])}." if fixable else ""
    yield f"Replies of the teacher that were not trained on: {list_reasons(counts)}.{advice}"


def _warn_of_dropped_rows(summary: Summary) -> Iterator[str]:
    stages = zip(summary["method"]["stages"], summary.get("tuning") or [], strict=False)
    for number, (stage, tuned) in enumerate(stages, start=1):
        dropped, ids = tuned.get("dropped"), tuned.get("dropped_ids") or []
        if not dropped:
            continue
        more = f" and {len(ids) - _NAMED:,} more, all in summary.json" if len(ids) > _NAMED else ""
        yield (
            f"Stage {number} trained {count_of(stage['examples'] or 0, 'row')}; {dropped:,} more "
            f"{'was' if dropped == 1 else 'were'} too long and left out: "
            f"{', '.join(ids[:_NAMED])}{more}."
        )


def _warn_of_unreadable_replies(accuracy: AccuracyPart | None) -> Iterator[str]:
    counts = [
        f"{result['unparsable']:,} of {result['n']:,} of the {model} model in {mode} mode"
        for model in MODELS
        for mode, result in results_by_mode(accuracy, model).items()
        if result["unparsable"] > MANY_UNPARSABLE * result["n"]
    ]
    if counts:
        yield f"Replies without a readable answer, each counted as wrong: {', '.join(counts)}."


def _warn_of_lost_classes(accuracy: AccuracyPart | None) -> Iterator[str]:
    lost = [
        f"{part['complexity']} in {part['mode']} mode {points_between(part)} on "
        f"{count_of(part['n'], 'test question')} ({p_in_words(part['p_adjusted'])})"
        for part in (accuracy.get("class_comparisons") or () if accuracy else ())
        if part["p_adjusted"] < ALPHA and part["high"] < 0
    ]
    if lost:
        yield f"Tuning lost what the base model could do (p after Holm): {'; '.join(lost)}."


def suggest_next(summary: Summary, comparison: Comparison | None = None) -> str:
    """The most useful next step from here, in at most 72 characters."""
    area, accuracy = main_area(summary.get("score")), summary.get("accuracy")
    if area and (advice := _judge_area(area).advice):
        return advice
    base, tuned = best_result(accuracy, "base"), best_result(accuracy, "tuned")
    if base is None or tuned is None:
        return "dry_run=true shows what the stages after this one would cost."
    if advice := _judge_gain(base, tuned, comparison or find_comparison(summary)).advice:
        return advice
    if routes_by_class(summary):
        return "Is it the routing? Rerun with -m split=entropy,random seed=1,2,3"
    return "Is routing better? Rerun with -m method=sft,distill,complexity_aware"


def routes_by_class(summary: Summary) -> bool:
    """Whether training treats the classes differently."""
    split = summary.get("split")
    classes = set(split["counts"]) if split else set()
    return any(
        len(set(stage["targets"].values())) > 1 or set(stage["targets"]) != classes
        for stage in summary["method"]["stages"]
    )

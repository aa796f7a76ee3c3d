"""What the scores of the training questions are worth. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from typing import Any

from caft.estimators import CONTROL, ESTIMATORS
from caft.records import AnswerScore, Chain, difficulty
from caft.statistics import (
    AreaUnderCurve,
    Interval,
    ResampledAreas,
    expected_calibration_error,
    multiclass_brier_score,
    resample_areas,
    roc_auc,
    wilson_interval,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreContext:
    """What is known about the scored questions besides their scores, by question id.

    `gold_of` is the place of the gold answer among the allowed ones (None for free text),
    `complexity_of` the class that the split gives. `source` is model or published. `fallback`
    are the answers of a model that might decline, `chains` its own chains of thought.
    """

    subject_of: Mapping[str, str] = field(default_factory=dict)
    gold_of: Mapping[str, int | None] = field(default_factory=dict)
    complexity_of: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = ()
    source: str = "model"
    fallback: Sequence[AnswerScore] = ()
    fallback_wording: str = ""
    chains: Sequence[Chain] = ()


def describe_scores(
    scores: Sequence[AnswerScore],
    estimator: str,
    confidence: float,
    context: ScoreContext | None = None,
) -> dict[str, Any]:
    """The `score` part of summary.json: each estimate against the model's own mistakes."""
    known = context or ScoreContext()
    measured = measure_areas(scores, confidence)
    masses = [score.estimates.get("option_mass") for score in scores]
    told = [mass for mass in masses if mass is not None]
    correct = [score.correct for score in scores]
    return {
        "estimator": estimator,
        "source": known.source,
        "roc_auc": measured.areas,
        "differences": measured.differences,
        "not_compared": measured.not_compared,
        "by_subject": _measure_subjects(scores, estimator, confidence, known),
        "calibration": measure_calibration(scores, known.gold_of),
        "option_mass": sum(told) / len(told) if told else None,
        "valid_answer_rate": sum(score.valid for score in scores) / len(scores),
        "accuracy": _share(correct, confidence),
        "accuracy_by_class": _measure_classes(scores, confidence, known),
        "fallback": _describe_fallback(scores, known),
        "chain": _describe_chains(scores, known),
    }


# Areas


@dataclass(frozen=True, slots=True)
class MeasuredAreas:
    """An area by estimator, `random` last, and the difference of every two of them.

    `not_compared` are the pairs whose common questions have no area, with the reason.
    """

    areas: dict[str, dict[str, Any]]
    differences: list[dict[str, Any]]
    not_compared: list[dict[str, Any]]


def measure_areas(scores: Sequence[AnswerScore], confidence: float) -> MeasuredAreas:
    """ROC AUC of every estimate, oriented so that more means harder, against mistakes.

    Intervals are percentile bootstraps over questions; differences are paired, over the
    questions that have both estimates. `random` is a number drawn by lot for every question.
    """
    names = list(dict.fromkeys(name for score in scores for name in score.estimates))
    values = {
        name: [difficulty(name, score.estimates.get(name)) for score in scores] for name in names
    }
    dice = Random(CONTROL)
    values[CONTROL] = [dice.random() for _ in scores]
    wrong = [not score.correct for score in scores]
    areas = {name: _describe_area(name, row, wrong, confidence) for name, row in values.items()}
    told = {name: values[name] for name in values if areas[name]["value"] is not None}
    for resampled in _resample_by_rows(told, wrong, confidence):
        for name in resampled.values:
            _take_bootstrap(areas[name], resampled.interval(name))
    compared = _compare_all(told, wrong, confidence)
    return MeasuredAreas(
        areas,
        differences=[pair for pair in compared if "value" in pair],
        not_compared=[pair for pair in compared if "value" not in pair],
    )


def _describe_area(
    name: str, values: Sequence[float | None], wrong: Sequence[bool], confidence: float
) -> dict[str, Any]:
    area = roc_auc(values, wrong, confidence, event="wrong")
    numbers = {"value": area.value, "low": area.low, "high": area.high}
    entry: dict[str, Any] = {**numbers, "n": area.n, "incorrect": area.positives}
    if area.value is None:
        entry["reason"] = area.reason
    if name in ESTIMATORS and ESTIMATORS[name].circular:
        entry["circular"] = True
    return entry


def _take_bootstrap(area: dict[str, Any], interval: Interval) -> None:
    # Where right and wrong do not overlap every draw is the same: the bootstrap then knows
    # nothing, and the bounds stay those of `roc_auc`.
    if interval.low < interval.high:
        area["low"], area["high"] = interval.low, interval.high


def _resample_by_rows(
    values: Mapping[str, Sequence[float | None]], wrong: Sequence[bool], confidence: float
) -> list[ResampledAreas]:
    """Estimates that exist for the same rows are resampled together."""
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, row in values.items():
        groups[tuple(place for place, value in enumerate(row) if value is not None)].append(name)
    return [
        _resample(rows, {name: values[name] for name in names}, wrong, confidence)
        for rows, names in groups.items()
    ]


def _resample(
    rows: Sequence[int],
    values: Mapping[str, Sequence[float | None]],
    wrong: Sequence[bool],
    confidence: float,
) -> ResampledAreas:
    kept = {name: [row[place] or 0.0 for place in rows] for name, row in values.items()}
    return resample_areas(kept, [wrong[place] for place in rows], confidence)


def _compare_all(
    values: Mapping[str, Sequence[float | None]], wrong: Sequence[bool], confidence: float
) -> list[dict[str, Any]]:
    """Every two estimates over the questions that have both, in order.

    A pair's rows are its own: one estimate that few questions have spoils no other comparison.
    """
    having = {
        name: {place for place, value in enumerate(row) if value is not None}
        for name, row in values.items()
    }
    pairs_of: dict[tuple[int, ...], list[tuple[str, str]]] = defaultdict(list)
    for first, second in combinations(values, 2):
        pairs_of[tuple(sorted(having[first] & having[second]))].append((first, second))
    found = {}
    for rows, pairs in pairs_of.items():
        reason = _reason_for_no_area([wrong[place] for place in rows])
        if reason:
            found.update({pair: {"n": len(rows), "reason": reason} for pair in pairs})
            continue
        named = {name: values[name] for pair in pairs for name in pair}
        resampled = _resample(rows, named, wrong, confidence)
        found.update({pair: _numbers(resampled.difference(*pair)) for pair in pairs})
    return [
        {"first": first, "second": second, **found[first, second]}
        for first, second in combinations(values, 2)
    ]


def _reason_for_no_area(wrong: Sequence[bool]) -> str:
    if not wrong:
        return "no question has both"
    if len(set(wrong)) == 1:
        return (
            f"the {len(wrong)} questions that have both are all {'wrong' if wrong[0] else 'right'}"
        )
    return ""


def _measure_subjects(
    scores: Sequence[AnswerScore], estimator: str, confidence: float, known: ScoreContext
) -> dict[str, Any]:
    by_subject: dict[str, list[AnswerScore]] = defaultdict(list)
    for score in scores:
        by_subject[known.subject_of.get(score.question_id, "")].append(score)
    if len(by_subject) < 2:
        return {}
    return {
        subject: measure_auc(by_subject[subject], estimator, confidence)
        for subject in sorted(by_subject)
    }


def measure_auc(scores: Sequence[AnswerScore], estimator: str, confidence: float) -> dict[str, Any]:
    """ROC AUC of one estimate against mistakes, with its bootstrap interval."""
    values = [difficulty(estimator, score.estimates.get(estimator)) for score in scores]
    wrong = [not score.correct for score in scores]
    area = _describe_area(estimator, values, wrong, confidence)
    if area["value"] is not None:
        (resampled,) = _resample_by_rows({estimator: values}, wrong, confidence)
        _take_bootstrap(area, resampled.interval(estimator))
    return area


# Calibration, accuracy, format


def measure_calibration(
    scores: Sequence[AnswerScore], gold_of: Mapping[str, int | None]
) -> dict[str, Any] | None:
    """How well the probabilities of the options keep their word; None where there are none.

    Probabilities are those of the allowed answers among themselves. `ece` compares the likeliest
    option's probability with how often it is right (10 bins); `brier` is over all options, 0 to
    2, and `brier_of_guessing` what equal probabilities would score.
    """
    rows, golds = [], []
    for score in scores:
        gold, mass = gold_of.get(score.question_id), sum(score.option_probabilities)
        if gold is not None and mass > 0:
            rows.append([share / mass for share in score.option_probabilities])
            golds.append(gold)
    if not rows:
        return None
    tops = [max(range(len(row)), key=row.__getitem__) for row in rows]
    sure = [min(1.0, row[top]) for row, top in zip(rows, tops, strict=True)]
    right = [top == gold for top, gold in zip(tops, golds, strict=True)]
    return {
        "ece": expected_calibration_error(sure, right),
        "brier": multiclass_brier_score(rows, golds),
        "brier_of_guessing": multiclass_brier_score(
            [[1 / len(row)] * len(row) for row in rows], golds
        ),
        "confidence": sum(sure) / len(sure),
        "accuracy": sum(right) / len(right),
        "n": len(rows),
    }


def _measure_classes(
    scores: Sequence[AnswerScore], confidence: float, known: ScoreContext
) -> dict[str, Any]:
    placed: dict[str, list[bool]] = defaultdict(list)
    for score in scores:
        if score.question_id in known.complexity_of:
            placed[known.complexity_of[score.question_id]].append(score.correct)
    return {name: _share(placed[name], confidence) for name in known.classes if placed[name]}


def _describe_fallback(scores: Sequence[AnswerScore], known: ScoreContext) -> dict[str, Any] | None:
    """What became of the rows when the model might decline: all are kept, and counted."""
    from caft.text.prompts import DECLINED

    asked = {score.question_id for score in scores}
    rows = [row for row in known.fallback if row.question_id in asked]
    if not rows:
        return None
    declined = [row.predicted == DECLINED for row in rows]
    return {
        "wording": known.fallback_wording,
        "n": len(rows),
        "declined": sum(declined),
        "correct": sum(row.correct for row in rows),
        "invalid": sum(not row.valid for row in rows),
    }


def _describe_chains(scores: Sequence[AnswerScore], known: ScoreContext) -> dict[str, Any] | None:
    asked = {score.question_id for score in scores}
    rows = [chain for chain in known.chains if chain.question_id in asked]
    if not rows:
        return None
    return {
        "n": len(rows),
        "correct": sum(row.correct for row in rows),
        "unparsable": sum(row.parsed is None for row in rows),
        "tokens": sum(len(row.entropies) for row in rows),
    }


def _share(flags: Sequence[bool], confidence: float) -> dict[str, Any]:
    return _numbers(wilson_interval(sum(flags), len(flags), confidence))


def _numbers(interval: Interval) -> dict[str, Any]:
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
    }


def measure_by_subject(
    scores: Sequence[AnswerScore],
    subject_of: Mapping[str, str],
    estimator: str,
    confidence: float = 0.95,
) -> dict[str, AreaUnderCurve]:
    """ROC AUC against mistakes for every subject, most questions first."""
    rows_of: dict[str, list[AnswerScore]] = {}
    for score in scores:
        rows_of.setdefault(subject_of.get(score.question_id, ""), []).append(score)
    by_size = sorted(rows_of.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        subject: roc_auc(
            [difficulty(estimator, row.estimates.get(estimator)) for row in rows],
            [not row.correct for row in rows],
            confidence,
            event="wrong",
        )
        for subject, rows in by_size
    }

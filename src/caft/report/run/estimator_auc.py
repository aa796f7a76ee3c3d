"""Validates the scores of the training questions against the model's mistakes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations_with_replacement
from statistics import fmean
from typing import TypeVar

from caft.estimators import ESTIMATORS, difficulty
from caft.packed import values_of
from caft.records import AnswerScore, Chain, SampledReply
from caft.report.parts import Calibration, ChainPart, FallbackPart, Share
from caft.report.run.accuracy import share_true
from caft.report.run.option_shares import pick_likeliest, share_options
from caft.report.schema import (
    Area,
    AreaDifference,
    ScorePart,
    Uncompared,
    as_share,
)
from caft.statistics import (
    AreaUnderCurve,
    ResampledAreas,
    brier_score,
    expected_calibration_error,
    resample_areas,
    roc_auc,
    stratified_auc,
)
from caft.text.prompts import DECLINED

_Written = TypeVar("_Written", Chain, SampledReply)

_Values = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreContext:
    """What is known about the scored questions besides their scores, by question id.

    `gold_of` is the place of the gold answer among the allowed ones (None for free text),
    `complexity_of` the class that the split gives. `source` is model or published. `fallback`
    are the answers of a model that might decline, `follow_ups` what it said of its own answers, by
    estimator, `chains` its own chains of thought, `samples` several drawn ones a question.
    """

    subject_of: Mapping[str, str] = field(default_factory=dict)
    gold_of: Mapping[str, int | None] = field(default_factory=dict)
    complexity_of: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = ()
    source: str = "model"
    fallback: Sequence[AnswerScore] = ()
    fallback_wording: str = ""
    follow_ups: Mapping[str, Sequence[AnswerScore]] = field(default_factory=dict)
    chains: Sequence[Chain] = ()
    samples: Sequence[SampledReply] = ()


def describe_scores(
    scores: Sequence[AnswerScore],
    estimator: str,
    confidence: float,
    context: ScoreContext | None = None,
) -> ScorePart:
    """The `score` part of summary.json: each estimate against the model's own mistakes."""
    known = context or ScoreContext()
    wrong = _mistakes(scores)
    names = list(dict.fromkeys(chain.from_iterable(values_of(scores, "estimates"))))
    values: dict[str, Sequence[float | None]] = {
        name: _difficulties(scores, name) for name in names
    }
    areas, differences, not_compared = _measure_areas(values, wrong, confidence)
    masses = values_of(scores, "estimates", "option_mass")
    known_masses = [mass for mass in masses if mass is not None]
    return {
        "estimator": estimator,
        "source": known.source,
        "confidence": confidence,
        "roc_auc": areas,
        "differences": differences,
        "not_compared": not_compared,
        "by_subject": _measure_subjects(scores, estimator, confidence, known),
        "within_subjects": _measure_within(scores, estimator, confidence, known),
        "calibration": _measure_calibration(scores, known.gold_of),
        "option_mass": sum(known_masses) / len(known_masses) if known_masses else None,
        "valid_answer_rate": sum(values_of(scores, "valid")) / len(scores),
        "accuracy": share_true([*values_of(scores, "correct")], confidence),
        "accuracy_by_class": _measure_classes(scores, confidence, known),
        "fallback": _describe_fallback(scores, known),
        "follow_up_mass": {
            name: fmean(sum(row.option_probabilities) for row in rows)
            for name, rows in known.follow_ups.items()
        },
        "chain": _describe_chains(scores, known.chains, lambda chain: len(chain.entropies)),
        "samples": _describe_chains(scores, known.samples, lambda reply: reply.generated_tokens),
    }


# Areas


def _difficulties(scores: Sequence[AnswerScore], estimator: str) -> list[float | None]:
    return [difficulty(estimator, value) for value in values_of(scores, "estimates", estimator)]


def _mistakes(scores: Sequence[AnswerScore]) -> list[bool]:
    return [not correct for correct in values_of(scores, "correct")]


def _subjects(scores: Sequence[AnswerScore], known: ScoreContext) -> list[str]:
    return [known.subject_of.get(name, "") for name in values_of(scores, "question_id")]


def _measure_areas(
    values: _Values, wrong: Sequence[bool], confidence: float
) -> tuple[dict[str, Area], list[AreaDifference], list[Uncompared]]:
    """ROC AUC of every estimate against mistakes, and of every two the paired difference.

    Bounds are percentile bootstraps over questions. If right and wrong do not overlap, every draw
    is the same and the bootstrap has no width: the bounds stay those of `roc_auc`. A pair is
    compared over the questions that have both: an estimate that few questions have does not affect
    other comparisons.
    """
    areas = {name: _measure_area(name, row, wrong, confidence) for name, row in values.items()}
    having = {
        name: {place for place, value in enumerate(row) if value is not None}
        for name, row in values.items()
        if areas[name]["value"] is not None
    }
    rows_of = {
        (first, second): tuple(sorted(having[first] & having[second]))
        for first, second in combinations_with_replacement(having, 2)
    }
    # Estimates that exist for the same rows are resampled together.
    names_of: dict[tuple[int, ...], set[str]] = defaultdict(set)
    for pair, rows in rows_of.items():
        names_of[rows].update(pair)
    resampled = {
        rows: _resample(rows, {name: values[name] for name in names}, wrong, confidence)
        for rows, names in names_of.items()
        if len({wrong[place] for place in rows}) == 2
    }
    differences: list[AreaDifference] = []
    not_compared: list[Uncompared] = []
    for (first, second), rows in rows_of.items():
        if rows not in resampled:
            reason = _reason_for_no_area([wrong[place] for place in rows])
            not_compared.append(
                {"first": first, "second": second, "n": len(rows), "reason": reason}
            )
        elif first != second:
            difference = as_share(resampled[rows].difference(first, second))
            differences.append({"first": first, "second": second, **difference})
        else:
            own = resampled[rows].interval(first)
            if own.low < own.high:
                areas[first] |= {"low": own.low, "high": own.high}
    return areas, differences, not_compared


def _measure_area(
    name: str, values: Sequence[float | None], wrong: Sequence[bool], confidence: float
) -> Area:
    entry = _as_area(roc_auc(values, wrong, confidence))
    if name in ESTIMATORS and ESTIMATORS[name].circular:
        entry["circular"] = True
    return entry


def _as_area(area: AreaUnderCurve) -> Area:
    entry: Area = {
        "value": area.value,
        "low": area.low,
        "high": area.high,
        "n": area.n,
        "incorrect": area.positives,
    }
    if area.value is None:
        entry["reason"] = area.reason
    return entry


def _resample(
    rows: Sequence[int], values: _Values, wrong: Sequence[bool], confidence: float
) -> ResampledAreas:
    kept = {name: [row[place] or 0.0 for place in rows] for name, row in values.items()}
    return resample_areas(kept, [wrong[place] for place in rows], confidence)


def _reason_for_no_area(wrong: Sequence[bool]) -> str:
    if not wrong:
        return "no question has both"
    return f"the {len(wrong)} questions that have both are all {'wrong' if wrong[0] else 'right'}"


def _measure_subjects(
    scores: Sequence[AnswerScore], estimator: str, confidence: float, known: ScoreContext
) -> dict[str, Area]:
    by_subject: dict[str, list[tuple[float | None, bool]]] = defaultdict(list)
    rows = zip(
        _subjects(scores, known), _difficulties(scores, estimator), _mistakes(scores), strict=True
    )
    for subject, value, mistake in rows:
        by_subject[subject].append((value, mistake))
    if len(by_subject) < 2:
        return {}
    areas = {}
    for subject, own in sorted(by_subject.items()):
        values, wrong = zip(*own, strict=True)
        areas[subject] = _measure_areas({estimator: values}, wrong, confidence)[0][estimator]
    return areas


def _measure_within(
    scores: Sequence[AnswerScore], estimator: str, confidence: float, known: ScoreContext
) -> Area | None:
    """The area over pairs of one subject; None where there are not several."""
    subjects = _subjects(scores, known)
    if len(set(subjects)) < 2:
        return None
    wrong = _mistakes(scores)
    area = stratified_auc(_difficulties(scores, estimator), wrong, subjects, confidence)
    return _as_area(area)


# Calibration, accuracy, format


def _measure_calibration(
    scores: Sequence[AnswerScore], gold_of: Mapping[str, int | None]
) -> Calibration | None:
    """Calibration of the allowed answers' probabilities, renormalised; None if there are none."""
    rows, golds = share_options(scores, gold_of)
    if not rows:
        return None
    sure, right = pick_likeliest(rows, golds)
    guesses = [[1 / len(row)] * len(row) for row in rows]
    return {
        "ece": expected_calibration_error(sure, right),
        "brier": brier_score(rows, golds),
        "brier_of_guessing": brier_score(guesses, golds),
        "confidence": sum(sure) / len(sure),
        "accuracy": sum(right) / len(right),
        "n": len(rows),
    }


def _measure_classes(
    scores: Sequence[AnswerScore], confidence: float, known: ScoreContext
) -> dict[str, Share]:
    placed: dict[str, list[bool]] = defaultdict(list)
    ids, flags = (values_of(scores, name) for name in ("question_id", "correct"))
    for name, correct in zip(ids, flags, strict=True):
        if name in known.complexity_of:
            placed[known.complexity_of[name]].append(correct)
    return {name: share_true(placed[name], confidence) for name in known.classes if placed[name]}


def _describe_fallback(scores: Sequence[AnswerScore], known: ScoreContext) -> FallbackPart | None:
    """What became of the rows when the model might decline: all are kept, and counted."""
    asked = {*values_of(scores, "question_id")}
    rows = [row for row in known.fallback if row.question_id in asked]
    if not rows:
        return None
    return {
        "wording": known.fallback_wording,
        "n": len(rows),
        "declined": sum(row.predicted == DECLINED for row in rows),
        "correct": sum(row.correct for row in rows),
        "invalid": sum(not row.valid for row in rows),
    }


def _describe_chains(
    scores: Sequence[AnswerScore], chains: Sequence[_Written], tokens: Callable[[_Written], int]
) -> ChainPart | None:
    asked = {*values_of(scores, "question_id")}
    rows = [chain for chain in chains if chain.question_id in asked]
    if not rows:
        return None
    return {
        "n": len(rows),
        "correct": sum(row.correct for row in rows),
        "unparsable": sum(row.parsed is None for row in rows),
        "tokens": sum(map(tokens, rows)),
    }

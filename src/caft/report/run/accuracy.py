"""Accuracies with Wilson intervals, over all rows, by class and by subject. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from caft.records import Prediction
from caft.report.parts import Share
from caft.report.run.unread import count_unread
from caft.report.schema import Accuracy, as_share
from caft.statistics import wilson_interval


def summarise_accuracy(
    predictions: Sequence[Prediction],
    complexity_of: Mapping[str, str],
    subject_of: Mapping[str, str],
    classes: Sequence[str],
    confidence: float,
) -> Accuracy:
    """One mode's entry in summary.json. Unparsable replies stay in the denominator."""
    by_class: dict[str, list[bool]] = defaultdict(list)
    by_subject: dict[str, list[bool]] = defaultdict(list)
    for item in predictions:
        by_class[complexity_of[item.question_id]].append(item.correct)
        by_subject[subject_of[item.question_id]].append(item.correct)
    subjects = sorted(by_subject.keys() - {""})
    right = share_true([item.correct for item in predictions], confidence)
    part: Accuracy = {
        "value": right["value"],
        "low": right["low"],
        "high": right["high"],
        "n": right["n"],
        "unparsable": sum(item.parsed is None for item in predictions),
        "generated_tokens": sum(item.generated_tokens for item in predictions),
        "by_complexity": {
            name: share_true(by_class[name], confidence) for name in classes if name in by_class
        },
        "by_subject": {name: share_true(by_subject[name], confidence) for name in subjects},
    }
    if unread := count_unread(predictions):
        part["unread"] = unread
    if thinking := sum(item.thinking_tokens for item in predictions):
        part["thinking_tokens"] = thinking
    if obeyed := [item.obeyed for item in predictions if item.obeyed is not None]:
        part["obeyed"] = share_true(obeyed, confidence)
    return part


def share_true(flags: Sequence[bool], confidence: float) -> Share:
    """The share of those that are true, with its Wilson interval."""
    return as_share(wilson_interval(sum(flags), len(flags), confidence))

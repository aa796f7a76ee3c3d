"""The classes of a split, one row each: where they lie and how often the base model errs there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from caft.records import AnswerScore
from caft.report.tables import ReportTables
from caft.statistics import wilson_interval


@dataclass(frozen=True, slots=True)
class ClassRow:
    """`wrong` is the base model's share of mistakes on the class's training questions."""

    name: str
    span: str
    questions: int
    wrong: Mapping[str, float] | None
    targets: tuple[str, ...]


def list_class_rows(
    split: Mapping[str, Any],
    method: Mapping[str, Any],
    tables: ReportTables,
    confidence: float,
) -> list[ClassRow]:
    """One row a class, in the split's order."""
    training = training_scores(tables)
    spans = _describe_spans(split["thresholds"], len(split["counts"]))
    return [
        ClassRow(
            name,
            span,
            questions,
            _share_wrong(training, tables.complexity_of, name, confidence),
            tuple(stage["targets"].get(name, "not in it") for stage in method.get("stages", ())),
        )
        for (name, questions), span in zip(split["counts"].items(), spans, strict=True)
    ]


def training_scores(tables: ReportTables) -> Sequence[AnswerScore]:
    """Scores of training questions: the rows that cut points and the AUC come from."""
    return [row for row in tables.scores if tables.split_of.get(row.question_id) == "train"]


def _describe_spans(cuts: Sequence[float], classes: int) -> list[str]:
    # A random split has no cut points: its classes lie nowhere in particular.
    if len(cuts) != classes - 1:
        return [""] * classes
    edges = [-math.inf, *cuts, math.inf]
    return [_describe_span(low, high) for low, high in pairwise(edges)]


def _describe_span(low: float, high: float) -> str:
    if low == -math.inf:
        return f"below {high:.3f}"
    return f"{low:.3f} and above" if high == math.inf else f"{low:.3f} to {high:.3f}"


def _share_wrong(
    scores: Sequence[AnswerScore],
    complexity_of: Mapping[str, str],
    name: str,
    confidence: float,
) -> Mapping[str, float] | None:
    own = [row.correct for row in scores if complexity_of.get(row.question_id) == name]
    if not own:
        return None
    share = wilson_interval(own.count(False), len(own), confidence)
    return {"value": share.value, "low": share.low, "high": share.high}

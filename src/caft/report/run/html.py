"""The report of one run as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caft.report import wording
from caft.report.comparison import DEFAULT_CONFIDENCE, best_mode, find_comparison
from caft.report.figures import (
    LEDGER,
    Figure,
    draw_accuracy,
    draw_curves,
    draw_histogram,
    draw_ledger,
    draw_roc,
)
from caft.report.headlines import (
    estimator_of,
    find_headlines,
    find_warnings,
    main_area,
    suggest_next,
)
from caft.report.page import render_page
from caft.report.run.class_rows import ClassRow, list_class_rows, training_scores
from caft.report.run.estimator_rows import list_area_rows, list_facts
from caft.report.run.question_rows import list_question_rows
from caft.report.run.rationales import describe_teaching
from caft.report.schema import Summary
from caft.report.tables import ReportTables
from caft.statistics import smallest_paired_difference
from caft.text.config import OptionIds

QUESTIONS_SHOWN = 12_000
SHOWN_WITHOUT_SCRIPTS = 25
_SUBJECTS_SHOWN = 100
_LONGEST_SUBJECT = 80
_LONGEST_CONFIG = 100_000


def render_report(
    summary: Mapping[str, Any],
    tables: ReportTables,
    config_yaml: str,
    title: str,
    *,
    questions: int = QUESTIONS_SHOWN,
    option_ids: OptionIds = OptionIds.letters,
) -> str:
    """One self-contained page under 3 MB, in UTF-8, for a run however far it got.

    `summary` has the keys of `schema.py`; `questions` bounds the rows of the question table (0:
    no table); `option_ids` are those that the model was shown.
    """
    # A part that is missing altogether reads like one that was not reached.
    summary = {**dict.fromkeys(Summary.__annotations__), **summary}
    values = {
        **summary,
        "title": title,
        "summary": summary,
        "config_yaml": wording.clip(config_yaml, _LONGEST_CONFIG),
        "figures": {figure.key: figure for figure in draw_figures(summary, tables)},
        **_describe_run(summary, tables, questions, option_ids),
    }
    return render_page("run.html.j2", ("tables.js", "values.js", "questions.js"), values)


def _describe_run(
    summary: Mapping[str, Any], tables: ReportTables, questions: int, option_ids: OptionIds
) -> dict[str, Any]:
    accuracy, score = summary.get("accuracy") or {}, summary.get("score")
    confidence = accuracy.get("confidence", DEFAULT_CONFIDENCE)
    comparison = find_comparison(summary, tables)
    split, estimator = summary.get("split"), score["estimator"] if score else None
    listed = list_question_rows(tables, accuracy, estimator, option_ids, questions)
    return {
        "findings": find_headlines(summary, comparison),
        "warnings": find_warnings(summary),
        "advice": suggest_next(summary, comparison),
        "comparison": comparison,
        "area_rows": list_area_rows(score) if score else [],
        "score_facts": list_facts(score) if score else [],
        "score_subjects": _list_score_subjects(score or {}),
        "score_subjects_total": len((score or {}).get("by_subject") or {}),
        "detectable": _find_detectable(comparison),
        "confidence": confidence,
        "best": {who: best_mode(accuracy, who) for who in ("base", "tuned")},
        "classes": _list_classes(summary, tables, confidence) if split else [],
        "subjects": _list_subjects(accuracy),
        "teaching": describe_teaching(tables, list(split["counts"]) if split else ()),
        "questions": listed.rows,
        "packed_questions": listed.packed,
        "choosable": listed.choosable,
        "shown_without_scripts": SHOWN_WITHOUT_SCRIPTS,
        "unit": wording.unit_of(estimator or ""),
    }


def _list_classes(
    summary: Mapping[str, Any], tables: ReportTables, confidence: float
) -> list[ClassRow]:
    split, method = summary["split"], summary.get("method") or {}
    return list_class_rows(split, method, tables, confidence)


def _find_detectable(comparison: Mapping[str, Any] | None) -> float | None:
    if not comparison:
        return None
    differing = (comparison["only_base"] + comparison["only_tuned"]) / comparison["n"]
    return smallest_paired_difference(comparison["n"], differing)


def _list_subjects(accuracy: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Each subject with the base and the tuned model's share in their best modes; largest first."""
    by_model = []
    for who in ("base", "tuned"):
        result = (accuracy.get(who) or {}).get(best_mode(accuracy, who) or "")
        by_model.append(result["by_subject"] if result else {})
    base, tuned = by_model
    names = sorted({*base, *tuned}, key=lambda name: (-_size_of_subject(name, base, tuned), name))
    return [
        (wording.clip(name, _LONGEST_SUBJECT), base.get(name), tuned.get(name))
        for name in names[:_SUBJECTS_SHOWN]
    ]


def _list_score_subjects(score: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The area under the curve of the largest subjects; a file may have one a question."""
    areas = score.get("by_subject") or {}
    names = sorted(areas, key=lambda name: (-areas[name]["n"], name))[:_SUBJECTS_SHOWN]
    return [(wording.clip(name, _LONGEST_SUBJECT), areas[name]) for name in sorted(names)]


def _size_of_subject(name: str, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> int:
    return int((base.get(name) or tuned[name])["n"])


def draw_figures(summary: Mapping[str, Any], tables: ReportTables) -> list[Figure]:
    """Every figure that the run has numbers for."""
    figures = _draw_score(summary, tables)
    accuracy, split = summary.get("accuracy"), summary.get("split")
    if accuracy:
        figures.append(draw_accuracy(accuracy, list(split["counts"]) if split else []))
    curves = draw_curves(tables.curves)
    if curves:
        figures.append(curves)
    cost = summary.get("cost") or {}
    if any(cost.get(key) for key, _ in LEDGER):
        figures.append(draw_ledger(cost))
    return figures


def _draw_score(summary: Mapping[str, Any], tables: ReportTables) -> list[Figure]:
    score, area = summary.get("score"), main_area(summary.get("score"))
    if not score or area is None:
        return []
    rows = [
        (row.estimates[score["estimator"]], row.correct)
        for row in training_scores(tables)
        if row.estimates.get(score["estimator"]) is not None
    ]
    if not rows:
        return []
    values, correct = [float(value or 0) for value, _ in rows], [right for _, right in rows]
    split = summary.get("split") or {"thresholds": [], "counts": {}}
    unit = wording.unit_of(score["estimator"])
    measure = wording.name_estimator(score["estimator"]) + (f" in {unit}" if unit else "")
    cuts = split["thresholds"]
    # A random split has no cut points, and its classes then have no place on the axis.
    classes = list(split["counts"]) if cuts else []
    falls = estimator_of(score).lower_is_harder
    figures = [draw_histogram(values, correct, cuts, classes, measure, lower_is_harder=falls)]
    if area["value"] is not None and len(set(correct)) == 2:
        wrong = [not right for right in correct]
        figures.append(draw_roc(values, wrong, cuts, measure, area, lower_is_harder=falls))
    return figures

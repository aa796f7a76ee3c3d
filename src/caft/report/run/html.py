"""The report of one run as one self-contained HTML page."""

from __future__ import annotations

from caft.report import wording
from caft.report.advice import suggest_next
from caft.report.comparison import best_mode, confidence_of
from caft.report.engine_part import describe_engine
from caft.report.figures import (
    TOKEN_COSTS,
    Figure,
    draw_accuracy,
    draw_calibration,
    draw_curves,
    draw_histogram,
    draw_roc,
    draw_token_costs,
)
from caft.report.headlines import find_headlines
from caft.report.page import render_page
from caft.report.run import page_tables
from caft.report.run.caveats import find_warnings
from caft.report.run.class_rows import tabulate_classes, training_scores
from caft.report.run.estimate_verdict import main_area
from caft.report.run.estimator_rows import list_facts, tabulate_estimates
from caft.report.run.option_shares import pick_likeliest, share_options
from caft.report.run.question_rows import list_question_rows
from caft.report.run.rationales import describe_chance, describe_teaching
from caft.report.run.unread import tabulate_unread
from caft.report.schema import MODELS, Comparison, Summary
from caft.report.tables import ReportTables
from caft.statistics import smallest_paired_difference

QUESTIONS_SHOWN = 12_000
SHOWN_WITHOUT_SCRIPTS = 25
_LONGEST_CONFIG = 100_000


def render_report(
    summary: Summary,
    tables: ReportTables,
    config_yaml: str,
    title: str,
    *,
    questions: int = QUESTIONS_SHOWN,
) -> str:
    """One self-contained page under 3 MB, in UTF-8, for a run that may have stopped early.

    `questions` bounds the rows of the question table (0: no table).
    """
    score, split = summary.get("score"), summary.get("split")
    accuracy, classes = summary.get("accuracy"), list(split["counts"]) if split else []
    estimator = score["estimator"] if score else ""
    shares = (score.get("accuracy_by_class") if score else None) or {}
    comparison = accuracy.get("comparison") if accuracy else None
    forgetting = summary.get("forgetting")
    browser = list_question_rows(tables, accuracy, estimator, questions, classes)
    values = {
        # A part that is missing is shown like one that was not reached.
        **dict.fromkeys(Summary.__annotations__),
        **summary,
        "title": title,
        "config_yaml": wording.clip(config_yaml, _LONGEST_CONFIG),
        "figures": {figure.key: figure for figure in draw_figures(summary, tables)},
        "headlines": find_headlines(summary),
        "warnings": find_warnings(summary),
        "advice": suggest_next(summary),
        "comparison": comparison,
        "estimates": tabulate_estimates(score) if score else None,
        "score_facts": list_facts(score) if score else [],
        "score_subjects": page_tables.tabulate_score_subjects(score) if score else None,
        "stage_rows": page_tables.tabulate_stages(summary),
        "detectable": _find_detectable(comparison) if comparison else None,
        "confidence": confidence_of(accuracy),
        "best": {model: best_mode(accuracy, model) for model in MODELS},
        "classes": tabulate_classes(split, summary["method"], shares, estimator) if split else None,
        "accuracies": page_tables.tabulate_accuracy(accuracy, classes) if accuracy else None,
        "subjects": page_tables.tabulate_subjects(accuracy) if accuracy else None,
        "forgetting_rows": page_tables.tabulate_forgetting(forgetting) if forgetting else None,
        "tabulate_rejections": page_tables.tabulate_rejections,
        "tabulate_rationales": page_tables.tabulate_rationales,
        "modes_in_words": wording.MODES_IN_WORDS,
        "fitted_cut": wording.describe_fitted_cut(accuracy),
        "unread": tabulate_unread(accuracy),
        "teaching": describe_teaching(tables.rationales, tables, classes),
        "own_chance": describe_chance(summary.get("cost")),
        "own": describe_teaching(tables.own, tables, classes),
        "browser": browser,
        "shown_without_scripts": SHOWN_WITHOUT_SCRIPTS,
        "engine_facts": describe_engine(summary.get("engine")),
        "unit": wording.unit_of(estimator),
    }
    return render_page("run.html.j2", ("tables.js", "values.js", "questions.js"), values)


def _find_detectable(comparison: Comparison) -> float | None:
    differing = (comparison["only_base"] + comparison["only_tuned"]) / comparison["n"]
    return smallest_paired_difference(comparison["n"], differing)


def draw_figures(summary: Summary, tables: ReportTables) -> list[Figure]:
    """Every figure that the run has numbers for."""
    accuracy, split, cost = summary.get("accuracy"), summary.get("split"), summary.get("cost")
    figures = [*_draw_score(summary, tables), *_draw_reliability(summary, tables)]
    if accuracy:
        figures.append(draw_accuracy(accuracy, list(split["counts"]) if split else []))
    curves = draw_curves(tables.curves, summary.get("tuning") or [])
    if curves:
        figures.append(curves)
    if cost and any(cost.get(key) for key, _ in TOKEN_COSTS):
        figures.append(draw_token_costs(cost))
    return figures


def _draw_score(summary: Summary, tables: ReportTables) -> list[Figure]:
    score, split = summary.get("score"), summary.get("split")
    area = main_area(score)
    if not score or area is None:
        return []
    estimator = wording.describe_estimator(score["estimator"])
    known = [
        (value, row.correct)
        for row in training_scores(tables)
        if (value := row.estimates.get(estimator.name)) is not None
    ]
    if not known:
        return []
    values, correct = [value for value, _ in known], [right for _, right in known]
    measure = estimator.title + (f" in {estimator.unit}" if estimator.unit else "")
    cuts = split["thresholds"] if split else []
    # A random split has no cut points, and its classes have no place on the axis.
    classes = list(split["counts"]) if split and cuts else []
    falls = estimator.lower_is_harder
    figures = [draw_histogram(values, correct, cuts, classes, measure, lower_is_harder=falls)]
    if area["value"] is not None and len(set(correct)) == 2:
        wrong = [not right for right in correct]
        figures.append(draw_roc(values, wrong, cuts, measure, area, lower_is_harder=falls))
    return figures


def _draw_reliability(summary: Summary, tables: ReportTables) -> list[Figure]:
    """Of the likeliest allowed answer; free text has none."""
    score = summary.get("score")
    stated = score.get("confidence") if score else None
    confidence = stated or confidence_of(summary.get("accuracy"))
    gold_of = {key: question.gold_index for key, question in tables.questions.items()}
    rows, golds = share_options(training_scores(tables), gold_of)
    return [draw_calibration(*pick_likeliest(rows, golds), confidence)] if rows else []

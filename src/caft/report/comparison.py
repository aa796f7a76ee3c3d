"""Compares the base and the tuned model on the same questions."""

from __future__ import annotations

from caft.records import Mode
from caft.report.schema import (
    MODES,
    Accuracy,
    AccuracyPart,
    Comparison,
    ModelName,
    Summary,
    as_share,
)
from caft.report.tables import ReportTables
from caft.statistics import count_paired, mcnemar_exact, paired_difference

DEFAULT_CONFIDENCE = 0.95


def confidence_of(accuracy: AccuracyPart | None) -> float:
    """The confidence of the summary's intervals."""
    return accuracy.get("confidence", DEFAULT_CONFIDENCE) if accuracy else DEFAULT_CONFIDENCE


def results_by_mode(accuracy: AccuracyPart | None, model: ModelName) -> dict[str, Accuracy]:
    """Accuracy of the base or tuned model in the modes that it was evaluated in."""
    by_mode = accuracy.get(model) if accuracy else None
    if not by_mode:
        return {}
    return {mode: result for mode in MODES if (result := by_mode.get(mode))}


def best_mode(accuracy: AccuracyPart | None, model: ModelName) -> str | None:
    """The mode chosen on validation questions, or the only one there is.

    Never the one that happens to be best on the test questions: None if none was chosen.
    """
    chosen = accuracy.get("best_mode") if accuracy else None
    if chosen and (mode := chosen.get(model)):
        return mode
    evaluated = list(results_by_mode(accuracy, model))
    return evaluated[0] if len(evaluated) == 1 else None


def best_result(accuracy: AccuracyPart | None, model: ModelName) -> Accuracy | None:
    """Accuracy of the base or tuned model in its best mode."""
    return results_by_mode(accuracy, model).get(best_mode(accuracy, model) or "")


def compare_models(
    tables: ReportTables, base: Mode, tuned: Mode, confidence: float = DEFAULT_CONFIDENCE
) -> Comparison | None:
    """Tuned minus base, each in the mode given, over the questions that both answered."""
    first = {row.question_id: row.correct for row in tables.predictions.get(("base", base), ())}
    second = {row.question_id: row.correct for row in tables.predictions.get(("tuned", tuned), ())}
    shared = [question for question in first if question in second]
    if not shared:
        return None
    outcome = count_paired([first[key] for key in shared], [second[key] for key in shared])
    gain = paired_difference(outcome, confidence)
    return {
        **as_share(gain),
        "only_base": outcome.only_first,
        "only_tuned": outcome.only_second,
        "p_value": mcnemar_exact(outcome.only_first, outcome.only_second),
    }


def find_comparison(summary: Summary, tables: ReportTables | None = None) -> Comparison | None:
    """The summary's comparison, or one computed from the tables' rows in the best modes."""
    accuracy = summary.get("accuracy")
    if accuracy and (stated := accuracy.get("comparison")):
        return stated
    base, tuned = best_mode(accuracy, "base"), best_mode(accuracy, "tuned")
    if tables is None or base is None or tuned is None:
        return None
    return compare_models(tables, Mode(base), Mode(tuned), confidence_of(accuracy))

"""Base against tuned on the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caft.records import Mode
from caft.report.schema import Comparison
from caft.report.tables import ReportTables
from caft.statistics import PairedOutcome, count_paired, mcnemar_exact, paired_difference

DEFAULT_CONFIDENCE = 0.95


def best_mode(accuracy: Mapping[str, Any], who: str) -> str | None:
    """The mode chosen on validation rows, or the only one there is.

    Never the one that happens to look best on the test questions: None when nobody chose.
    """
    chosen = (accuracy.get("best_mode") or {}).get(who)
    if chosen:
        return str(chosen)
    examined = [mode for mode, result in (accuracy.get(who) or {}).items() if result]
    return examined[0] if len(examined) == 1 else None


def best_result(accuracy: Mapping[str, Any], who: str) -> Mapping[str, Any] | None:
    """Accuracy of the base or tuned model in its best mode."""
    mode = best_mode(accuracy, who)
    result: Mapping[str, Any] | None = (accuracy.get(who) or {}).get(mode)
    return result


def compare_models(
    tables: ReportTables, base: Mode, tuned: Mode, confidence: float = DEFAULT_CONFIDENCE
) -> Comparison | None:
    """Tuned minus base, each in the mode given, over the questions that both were asked."""
    first = {row.question_id: row.correct for row in tables.predictions.get(("base", base), ())}
    second = {row.question_id: row.correct for row in tables.predictions.get(("tuned", tuned), ())}
    shared = [question for question in first if question in second]
    if not shared:
        return None
    outcome = count_paired([first[key] for key in shared], [second[key] for key in shared])
    return _describe(outcome, confidence)


def _describe(outcome: PairedOutcome, confidence: float) -> Comparison:
    gain = paired_difference(outcome, confidence)
    return {
        "value": gain.value,
        "low": min(gain.low, gain.value),
        "high": max(gain.high, gain.value),
        "n": gain.n,
        "only_base": outcome.only_first,
        "only_tuned": outcome.only_second,
        "p_value": mcnemar_exact(outcome.only_first, outcome.only_second),
    }


def find_comparison(summary: Mapping[str, Any], tables: ReportTables) -> Comparison | None:
    """The summary's own comparison, or one made of the tables' rows in the best modes."""
    accuracy = summary.get("accuracy") or {}
    stated: Comparison | None = accuracy.get("comparison")
    if stated:
        return stated
    base, tuned = best_mode(accuracy, "base"), best_mode(accuracy, "tuned")
    if base is None or tuned is None:
        return None
    confidence = accuracy.get("confidence", DEFAULT_CONFIDENCE)
    return compare_models(tables, Mode(base), Mode(tuned), confidence)

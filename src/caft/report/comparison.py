"""Compares the base and the tuned model on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product

from caft.records import Mode, Question
from caft.report.parts import Share
from caft.report.schema import (
    MODES,
    Accuracy,
    AccuracyPart,
    ClassComparison,
    Comparison,
    ModelName,
    as_share,
)
from caft.report.tables import ReportTables
from caft.statistics import (
    Interval,
    PairedOutcome,
    count_paired,
    holm_adjusted,
    mcnemar_exact,
    paired_difference,
)

DEFAULT_CONFIDENCE = 0.95


def as_interval(share: Share) -> Interval:
    """What summary.json holds as an interval again."""
    return Interval(share["value"], share["low"], share["high"], share["n"])


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
    tables: ReportTables,
    base: Mode,
    tuned: Mode,
    confidence: float = DEFAULT_CONFIDENCE,
    measure: Callable[[PairedOutcome, float], Interval] = paired_difference,
) -> Comparison | None:
    """Tuned minus base, each in the mode given, over the questions that both answered."""
    outcome = _pair(tables, base, tuned)
    if outcome is None:
        return None
    return {
        **as_share(measure(outcome, confidence)),
        "only_base": outcome.only_first,
        "only_tuned": outcome.only_second,
        "p_value": mcnemar_exact(outcome.only_first, outcome.only_second),
    }


def compare_modes(
    tables: ReportTables, confidence: float = DEFAULT_CONFIDENCE
) -> dict[str, Comparison]:
    """Tuned minus base in every mode that both were evaluated in."""
    found = ((mode.name, compare_models(tables, mode, mode, confidence)) for mode in Mode)
    return {mode: comparison for mode, comparison in found if comparison}


def measure_chance(questions: Iterable[Question]) -> float | None:
    """The share right of one allowed answer a question, drawn at random.

    None where any question has free text for an answer, which cannot be drawn.
    """
    sizes = [len(question.options or question.answer_set) for question in questions]
    return sum(1 / size for size in sizes) / len(sizes) if sizes and all(sizes) else None


def _pair(
    tables: ReportTables, base: Mode, tuned: Mode, complexity: str | None = None
) -> PairedOutcome | None:
    """Both models on the questions that both answered, of one class if it is given."""
    first, second = (
        {row.question_id: row.correct for row in tables.predictions.get((model, mode), ())}
        for model, mode in (("base", base), ("tuned", tuned))
    )
    shared = [
        question
        for question in first
        if question in second and complexity in (None, tables.complexity_of.get(question))
    ]
    if not shared:
        return None
    return count_paired([first[key] for key in shared], [second[key] for key in shared])


def compare_classes(
    tables: ReportTables, classes: Sequence[str], confidence: float = DEFAULT_CONFIDENCE
) -> list[ClassComparison]:
    """Tuned minus base for every class and mode, both models in the same mode.

    Holm's correction is over all of them.
    """
    found: list[ClassComparison] = []
    for mode, complexity in product(Mode, classes):
        outcome = _pair(tables, mode, mode, complexity)
        if outcome is not None:
            p_value = mcnemar_exact(outcome.only_first, outcome.only_second)
            found.append({
                **as_share(paired_difference(outcome, confidence)),
                "complexity": complexity, "mode": mode.name,
                "p_value": p_value, "p_adjusted": p_value,
            })  # fmt: skip
    adjusted = holm_adjusted([part["p_value"] for part in found])
    return [{**part, "p_adjusted": p} for part, p in zip(found, adjusted, strict=True)]

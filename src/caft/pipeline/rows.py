"""The tables that a run leaves in its folder, row by row: never all at once in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caft.grading import rules_differ
from caft.packed import values_of
from caft.records import AnswerScore, Prediction, Question, Rationale
from caft.report.tables import ReportTables
from caft.store import plain
from caft.text.answers import gold_label


def score_rows(scores: Sequence[AnswerScore], tables: ReportTables) -> Iterator[dict[str, object]]:
    """scores.parquet: every question with its single-token answer and its estimates."""
    asked = tables.questions.values()
    subjects = {question.id: question.subject for question in asked}
    return (
        {
            "question_id": score.question_id,
            "split": tables.split_of[score.question_id],
            "complexity": tables.complexity_of.get(score.question_id),
            "subject": subjects[score.question_id],
            "predicted": score.predicted,
            "valid": score.valid,
            "correct": score.correct,
            **score.estimates,
            "option_probabilities": list(score.option_probabilities),
        }
        for score in scores
    )


def prediction_rows(tables: ReportTables) -> Iterator[dict[str, object]]:
    """predictions.parquet: every reply to a test question, with what was asked.

    `gold` is written as `parsed` is: an option's id (B), a member of the answer set, or free text.
    `rules_correct` is the verdict of our own rules, null where nothing else decided.
    """
    keys = dict.fromkeys(
        key for rows in tables.predictions.values() for key in values_of(rows, "question_id")
    )
    asked = {key: tables.questions[key] for key in keys}
    gold = {key: gold_label(item, tables.option_ids) for key, item in asked.items()}
    return (
        {
            "question_id": prediction.question_id,
            "subject": asked[prediction.question_id].subject,
            "question": asked[prediction.question_id].text,
            "options": list(asked[prediction.question_id].options),
            "gold": gold[prediction.question_id],
            "model": who,
            "mode": mode.name,
            "complexity": tables.complexity_of.get(prediction.question_id),
            "text": prediction.text,
            "parsed": prediction.parsed,
            "correct": prediction.correct,
            "rules_correct": _by_rules(prediction, asked[prediction.question_id], tables),
            "generated_tokens": prediction.generated_tokens,
            "thinking_tokens": prediction.thinking_tokens,
            "obeyed": prediction.obeyed,
            "unread": prediction.unread and prediction.unread.name,
            "marked": prediction.marked,
        }
        for (who, mode), rows in tables.predictions.items()
        for prediction in rows
    )


def further_rows(sets: Mapping[str, ReportTables]) -> Iterator[dict[str, object]]:
    """forgetting.parquet: as predictions.parquet, of every further set; they have no classes."""
    return (
        {"dataset": name, **row} for name, tables in sets.items() for row in prediction_rows(tables)
    )


def _by_rules(row: Prediction, question: Question, tables: ReportTables) -> bool | None:
    if not question.grader:
        return None
    return row.correct != rules_differ(row.parsed, row.correct, question, tables.option_ids)


def rationale_rows(rationales: Sequence[Rationale]) -> Iterator[dict[str, object]]:
    """rationales.parquet: every rationale, accepted or refused."""
    return map(plain, rationales)

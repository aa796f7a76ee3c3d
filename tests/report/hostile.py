"""A run in which every text is hostile: markup, templates, broken UTF-8."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from caft.records import AnswerScore, Prediction, Question, Rationale
from caft.report.tables import ReportTables

HOSTILE = (
    "</script></title></style></textarea><script>document.title='pwned'</script>"
    "<img src=x onerror=\"document.title='pwned'\"><svg onload=\"document.title='pwned'\">"
    '"\' onmouseover="document.title=1" {{ 7 * 7 }} {% raw %} \ud800 \x00 \u202e <!-- ]]>'
)


def spoil(value: Any) -> Any:
    """Put the hostile string into every text and every free name."""
    fixed = {"best_mode", "by_complexity"}
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, list):
        return [spoil(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key in fixed else spoil(item) for key, item in value.items()}
    return value


def spoil_run(sample: Any) -> tuple[dict[str, Any], ReportTables]:
    tables, summary = sample.tables, spoil(sample.summary)
    estimator = summary["score"]["estimator"]
    areas = summary["score"]["roc_auc"]
    areas[estimator] = areas.pop("answer_entropy")
    summary["score"]["roc_auc"]["none" + HOSTILE] = {
        "value": None,
        "low": None,
        "high": None,
        "n": 1,
        "incorrect": 0,
        "reason": HOSTILE,
    }
    summary["dataset"]["removed"][HOSTILE] = 3
    summary["split"]["counts"] = {
        name + HOSTILE: n for name, n in summary["split"]["counts"].items()
    }
    for result in (r for who in ("base", "tuned") for r in summary["accuracy"][who].values()):
        for group in ("by_complexity", "by_subject"):
            result[group] = {name + HOSTILE: share for name, share in result[group].items()}
    questions = {
        key: Question(
            id=key + HOSTILE,
            text=HOSTILE,
            options=(HOSTILE, HOSTILE),
            gold_index=0,
            subject=HOSTILE,
        )
        for key in tables.questions
    }
    scores = [
        AnswerScore(
            question_id=s.question_id,
            predicted=HOSTILE,
            valid=True,
            correct=s.correct,
            estimates={estimator: s.estimates["answer_entropy"]},
        )
        for s in tables.scores
    ]
    predictions = {
        key: [
            Prediction(
                question_id=p.question_id,
                text=HOSTILE,
                parsed=HOSTILE,
                correct=p.correct,
                generated_tokens=2,
            )
            for p in rows
        ]
        for key, rows in tables.predictions.items()
    }
    rationales = [
        Rationale(
            question_id=r.question_id,
            text=HOSTILE,
            answer=HOSTILE,
            agrees=r.agrees,
            refusal=r.refusal and HOSTILE,
            source=HOSTILE,
        )
        for r in tables.rationales
    ]
    return summary, replace(
        tables, questions=questions, scores=scores, predictions=predictions, rationales=rationales,
        complexity_of={key: name + HOSTILE for key, name in tables.complexity_of.items()},
        curves=[{**row, "stage": HOSTILE} for row in tables.curves],
    )  # fmt: skip

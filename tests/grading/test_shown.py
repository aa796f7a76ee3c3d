"""Where a grader and our rules differ, both verdicts are shown and counted."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace

from caft.grading import set_grader
from caft.pipeline.rows import prediction_rows
from caft.pipeline.summary import find_grading
from caft.records import Mode, Prediction, Question
from caft.report.run.question_rows import list_question_rows
from caft.report.tables import ReportTables

INTERVAL = Question(id="q1", text="Where?", gold_text="[a,1]")
WORDS = Question(id="q2", text="Who?", gold_text="the tower")
CHOSEN = Question(id="q3", text="Which?", options=("x", "y"), gold_index=1)


def reply(question: Question, parsed: str | None, *, correct: bool) -> Prediction:
    return Prediction(question_id=question.id, text=f"So [[{parsed}]]", parsed=parsed,
                      correct=correct, generated_tokens=3)  # fmt: skip


def tables_of(*questions: Question) -> ReportTables:
    replies = [
        reply(INTERVAL, "[A,1]", correct=False),
        reply(WORDS, "the tower", correct=True),
        reply(CHOSEN, "B", correct=True),
    ]
    other = [replace(replies[0], parsed="[a, 2/2]", correct=True), *replies[1:]]
    return ReportTables(
        questions={item.id: item for item in questions},
        split_of={item.id: "test" for item in questions},
        complexity_of={item.id: "hard" for item in questions},
        predictions={("base", Mode.answer): replies, ("base", Mode.rationale): other},
    )


def test_both_verdicts_are_in_the_table_on_the_page_and_in_the_count() -> None:
    tables = tables_of(
        *(set_grader(each, "math_verify 0.9 1.1") for each in (INTERVAL, WORDS, CHOSEN))
    )
    rows = [(row["correct"], row["rules_correct"]) for row in prediction_rows(tables)]
    by_answer, by_rationale = rows[:3], rows[3:]
    assert by_answer == [(False, True), (True, None), (True, None)]
    assert by_rationale == [(True, False), (True, None), (True, None)]
    found = list_question_rows(tables, None, "answer_entropy", 9)
    notes = {row.id: [each and each.note for each in row.replies] for row in found.rows}
    assert notes == {
        "q1": ["right by our rules", "wrong by our rules"], "q2": ["", ""], "q3": ["", ""],
    }  # fmt: skip
    packed = json.loads(gzip.decompress(base64.b64decode(found.packed)))
    assert sum("note" in each for row in packed for each in row["replies"]) == 2
    assert find_grading(tables) == {
        "grader": "math_verify", "version": "0.9 1.1", "questions": 1, "replies": 2, "differ": 2,
    }  # fmt: skip


def test_a_reply_that_routing_takes_is_counted_once() -> None:
    tables = tables_of(
        *(set_grader(each, "math_verify 0.9 1.1") for each in (INTERVAL, WORDS, CHOSEN))
    )
    routed = {("base", Mode.routed): tables.predictions["base", Mode.rationale]}
    again = replace(tables, predictions={**tables.predictions, **routed})
    assert find_grading(again) == find_grading(tables)


def test_our_rules_differ_from_nobody() -> None:
    tables = tables_of(INTERVAL, WORDS, CHOSEN)
    assert {row["rules_correct"] for row in prediction_rows(tables)} == {None}
    assert find_grading(tables) == {
        "grader": "rules", "version": "", "questions": 2, "replies": 4, "differ": 0,
    }  # fmt: skip
    only = tables_of(CHOSEN)
    assert find_grading(replace(only, predictions={})) is None

from typing import Any

from caft.records import AnswerScore, Mode, Prediction, Question
from caft.report.question_rows import MOST_BYTES, list_question_rows
from caft.report.tables import ReportTables
from caft.text.config import OptionIds


def make_tables(count: int, text: str = "What?") -> ReportTables:
    keys = [f"q{number:05d}" for number in range(count)]
    return ReportTables(
        questions={
            key: Question(id=key, text=text, options=("one", "two"), gold_index=1) for key in keys
        },
        scores=[
            AnswerScore(question_id=key, predicted="A", valid=True, correct=False,
                        estimates={"answer_entropy": float(place)})
            for place, key in enumerate(keys)
        ],
    )  # fmt: skip


def list_rows(tables: ReportTables, limit: int, accuracy: Any = None) -> tuple[list[Any], int]:
    return list_question_rows(tables, accuracy or {}, "answer_entropy", OptionIds.letters, limit)


def test_a_sample_is_even_over_the_estimate_and_starts_at_the_top() -> None:
    rows, choosable = list_rows(make_tables(100), 4)
    assert [row.estimate for row in rows] == [99.0, 74.0, 49.0, 24.0]
    assert choosable == 100


def test_limits_of_none_and_of_more_than_there_are() -> None:
    assert list_rows(make_tables(3), 0) == ([], 3)
    assert len(list_rows(make_tables(3), 50)[0]) == 3
    assert list_rows(ReportTables(), 50) == ([], 0)


def test_a_run_that_was_only_scored_shows_the_one_token_reply() -> None:
    ((row,), _) = list_rows(make_tables(1), 5)
    assert (row.base.answer, row.base.correct, row.tuned, row.outcome) == (
        "A",
        False,
        None,
        "wrong",
    )
    assert row.gold == "B"
    assert row.options == (("A", "one", False), ("B", "two", True))


def test_examined_questions_come_alone_with_what_changed() -> None:
    tables = make_tables(4)
    reply = Prediction(question_id="q00002", text="B", parsed="B", correct=True,
                       generated_tokens=1)  # fmt: skip
    unread = Prediction(question_id="q00002", text="hm", parsed=None, correct=False,
                        generated_tokens=9)  # fmt: skip
    tables = ReportTables(
        questions=tables.questions,
        scores=tables.scores,
        predictions={("base", Mode.answer): [unread], ("tuned", Mode.answer): [reply]},
    )
    accuracy = {"best_mode": {"base": "answer", "tuned": "answer"}}
    ((row,), choosable) = list_rows(tables, 9, accuracy)
    assert choosable == 1
    assert row.outcome == "wrong, then right"
    assert (row.base.answer, row.base.text) == ("unreadable", "hm")
    assert (row.tuned.answer, row.tuned.text) == ("B", "")


def test_questions_without_an_estimate_come_last() -> None:
    tables = make_tables(2)
    without = AnswerScore(question_id="q00001", predicted="", valid=False, correct=False,
                          estimates={"answer_entropy": None})  # fmt: skip
    tables = ReportTables(questions=tables.questions, scores=[without, tables.scores[0]])
    rows, _ = list_rows(tables, 5)
    assert [(row.id, row.estimate) for row in rows] == [("q00000", 0.0), ("q00001", None)]
    assert rows[1].base.answer == "nothing"


def test_long_texts_give_fewer_rows_rather_than_a_page_that_does_not_open() -> None:
    rows, _ = list_rows(make_tables(4000, text="&" * 5000), 4000)
    assert 100 < len(rows) < 4000
    assert sum(len(row.text) for row in rows) * 5 < MOST_BYTES

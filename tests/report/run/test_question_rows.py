import base64
import gzip
import json
import random
from dataclasses import replace
from typing import Any

from caft.records import AnswerScore, Mode, Prediction, Question
from caft.report.run.question_rows import list_question_rows
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
    rows, packed, choosable = list_question_rows(
        tables, accuracy, "answer_entropy", OptionIds.letters, limit
    )
    unpacked = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert [row["id"] for row in unpacked] == [row.id for row in rows]
    return rows, choosable


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


def test_evaluated_questions_come_alone_with_what_changed() -> None:
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


def make_noise(count: int, length: int) -> ReportTables:
    """Texts that no compression makes smaller."""
    tables, dice = make_tables(count), random.Random(3)
    letters = [chr(code) for code in range(0x4E00, 0x9000)]
    noise = {
        key: replace(question, text="".join(dice.choices(letters, k=length)))
        for key, question in tables.questions.items()
    }
    return replace(tables, questions=noise)


def test_long_texts_are_cut_shorter_before_questions_are_left_out() -> None:
    rows, _ = list_rows(make_noise(2000, 700), 2000)
    assert len(rows) == 2000
    assert max(len(row.text) for row in rows) < 400


def test_rows_that_do_not_fit_even_so_are_taken_evenly() -> None:
    rows, choosable = list_rows(make_noise(6000, 200), 6000)
    assert choosable == 6000
    assert 2000 < len(rows) < 6000
    assert rows[0].estimate == 5999.0
    assert rows[-1].estimate < 5


def test_packed_rows_know_the_order_of_the_classes_and_lose_half_letters_only() -> None:
    tables = make_tables(3, text="half \ud800 a pair")
    placed = {"q00000": "easy", "q00001": "middle", "q00002": "hard"}
    _, packed, _ = list_question_rows(replace(tables, complexity_of=placed), None,
                                      "answer_entropy", OptionIds.letters, 3)  # fmt: skip
    unpacked = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert [(row["complexity"], row["place"]) for row in unpacked] == [
        ("hard", 2), ("middle", 1), ("easy", 0)
    ]  # fmt: skip
    assert unpacked[0]["text"] == "half ? a pair"

import base64
import gzip
import json
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from caft.records import AnswerScore, Mode, Prediction, Question, Unread
from caft.report.run import question_rows
from caft.report.run.question_rows import ShownReply, list_question_rows
from caft.report.tables import ReportTables


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
    found = list_question_rows(tables, accuracy, "answer_entropy", limit)
    assert [row["id"] for row in unpack(found.packed)] == [row.id for row in found.rows]
    return list(found.rows), found.choosable


def unpack(packed: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_a_sample_is_even_over_the_estimate_and_starts_at_the_top() -> None:
    rows, choosable = list_rows(make_tables(100), 4)
    assert [row.estimate for row in rows] == [99.0, 74.0, 49.0, 24.0]
    assert choosable == 100


def test_questions_are_left_out_where_short_texts_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(question_rows, "MOST_BYTES", 3000)
    drawn, tables = random.Random(1), make_tables(400)
    noise = {
        key: replace(question, text=f"{drawn.getrandbits(1200):x}")
        for key, question in tables.questions.items()
    }
    rows, choosable = list_rows(replace(tables, questions=noise), 300)
    estimates = [row.estimate for row in rows]
    assert 5 < len(rows) < 300
    assert estimates[0] == 399.0
    assert all(400 / len(rows) / 2 < a - b < 800 / len(rows) for a, b in pairwise(estimates))
    assert choosable == 400


def test_limits_of_none_and_of_more_than_there_are() -> None:
    assert list_rows(make_tables(3), 0) == ([], 3)
    assert len(list_rows(make_tables(3), 50)[0]) == 3
    assert list_rows(ReportTables(), 50) == ([], 0)


def test_a_run_that_was_only_scored_shows_the_one_token_reply() -> None:
    found = list_question_rows(make_tables(1), None, "answer_entropy", 5)
    (row,) = found.rows
    assert found.columns == [("base", Mode.answer)]
    assert row.replies == (ShownReply("A", "wrong"),)
    assert row.outcome == "wrong"
    assert row.gold == "B"
    assert row.options == (("A", "one", False), ("B", "two", True))


def answer(text: str, parsed: str | None, **more: Any) -> Prediction:
    return Prediction(question_id="q00002", text=text, parsed=parsed, correct=parsed == "B",
                  generated_tokens=9, **more)  # fmt: skip


def test_every_mode_of_both_models_is_shown_with_what_was_read_and_why_it_is_wrong() -> None:
    outside = answer("So [[13]].", None, unread=Unread.outside, marked="13")
    replies = {
        ("tuned", Mode.routed): [answer("Thus [[B]].", "B")],
        ("tuned", Mode.rationale): [answer("Thus [[B]].", "B")],
        ("tuned", Mode.answer): [answer("A", "A")],
        ("base", Mode.rationale): [outside],
        ("base", Mode.answer): [answer("hm", None)],
    }
    tables = replace(make_tables(4), predictions=replies)
    accuracy: Any = {"best_mode": {"base": "rationale", "tuned": "routed"}}
    found = list_question_rows(tables, accuracy, "answer_entropy", 9)
    assert (found.choosable, len(found.rows)) == (1, 1)
    shown = dict(zip(found.columns, found.rows[0].replies, strict=True))
    assert shown == {
        ("base", Mode.answer): ShownReply("", "unreadable", "hm"),
        ("base", Mode.rationale): ShownReply("13", "outside the allowed answers", "So [[13]]."),
        ("tuned", Mode.answer): ShownReply("A", "wrong"),
        ("tuned", Mode.rationale): ShownReply("B", "right", "Thus [[B]]."),
        # Its text stands there already.
        ("tuned", Mode.routed): ShownReply("B", "right", "", "rationale"),
    }
    assert next(iter(shown)) == ("base", Mode.answer)
    assert found.rows[0].outcome == "wrong, then right"
    assert unpack(found.packed)[0]["replies"][4] == {
        "answer": "B", "verdict": "right", "taken": "rationale"}  # fmt: skip


def test_a_long_reply_keeps_its_end_where_the_answer_stands() -> None:
    long = answer("Let me see. " + "hm " * 999 + "[[13]]", None)
    tables = replace(make_tables(4), predictions={("base", Mode.rationale): [long]})
    ((row,), _) = list_rows(tables, 9)
    assert row.replies[0].text.startswith("Let me see.")
    assert row.replies[0].text.endswith("hm [[13]]")
    assert len(row.replies[0].text) < 700


def test_questions_without_an_estimate_come_last() -> None:
    tables = make_tables(2)
    without = AnswerScore(question_id="q00001", predicted="", valid=False, correct=False,
                          estimates={"answer_entropy": None})  # fmt: skip
    tables = ReportTables(questions=tables.questions, scores=[without, tables.scores[0]])
    rows, _ = list_rows(tables, 5)
    assert [(row.id, row.estimate) for row in rows] == [("q00000", 0.0), ("q00001", None)]
    assert rows[1].replies[0].answer == "nothing"


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
    tables = replace(tables, complexity_of=placed)
    unpacked = unpack(list_question_rows(tables, None, "answer_entropy", 3).packed)
    assert [(row["complexity"], row["place"]) for row in unpacked] == [
        ("hard", 2), ("middle", 1), ("easy", 0)
    ]  # fmt: skip
    assert unpacked[0]["text"] == "half ? a pair"

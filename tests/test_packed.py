"""Packed rows are the rows: equal, of the same types, in the same order, in less memory."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from caft import packed
from caft.packed import Packed, by_id, change_values, join, keep, pack, values_of
from caft.records import AnswerScore, Prediction, Question, Rationale, Unread

QUESTION = Question(
    id="q0",
    text="Is “½” > 0.3?\n\ttab, null \x00, 漢字, 🙂",
    options=("yes, it is", "", "[1, 2]"),
    gold_index=0,
    subject="math",
    rationale="Because “½” 漢字, 🙂.\n[[A]]",
    origin="file.jsonl:3",
)
QUESTIONS = [
    QUESTION,
    Question(id="bare", text=""),
    replace(QUESTION, id="q1", options=(), answer_set=("1", "2"), rationale=None),
    replace(QUESTION, id="q2", text="another", gold_index=2**70, subject=""),
    replace(QUESTION, id="half", text="half a pair: \ud83d", rationale="\ude42"),
]
SCORES = [
    AnswerScore(question_id="q0", predicted="A", valid=True, correct=False,
                estimates={"entropy": 0.1 + 0.2, "option_entropy": None}),
    AnswerScore(question_id="q1", predicted="", valid=False, correct=True,
                estimates={"entropy": math.inf, "tiny": 5e-324},
                option_probabilities=(0.25, 1e-300)),
    AnswerScore(question_id="q2", predicted="B", valid=True, correct=True),
]  # fmt: skip
PREDICTIONS = [
    Prediction(question_id="q0", text="[[A]]", parsed=None, correct=False, generated_tokens=300,
               unread=Unread.cut, obeyed=True),
    Prediction(question_id="q1", text="A", parsed="A", correct=True, generated_tokens=1),
]  # fmt: skip
RATIONALES = [
    Rationale(question_id="q0", text="so [[B]]", answer="B", agrees=True, usd=0.00012),
    Rationale(question_id="q1", text="", answer=None, agrees=False, refusal="empty"),
]
VALUES: list[object] = [None, True, 1, 1.0, "1", [1, "a", None], {"b": 1, "a": [2.5]}, {}, [], ()]


@dataclass(frozen=True, slots=True)
class Cells:
    origin: str
    values: dict[str, object]


CELLS = [
    Cells("file:1", {"a": 1, "b": ["x", "y"]}),
    Cells("file:2", {"a": 2.5}),
    Cells("file:3", {"b": [], "c": None}),
    Cells("file:4", {"c": "late", "a": "1"}),
]
KINDS: dict[str, list[object]] = {
    "questions": [*QUESTIONS], "scores": [*SCORES], "predictions": [*PREDICTIONS],
    "rationales": [*RATIONALES], "values": VALUES, "cells": [*CELLS],
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "FEWEST_ROWS", 2)
    monkeypatch.setattr(packed, "ROWS_IN_BLOCK", 2)


def written(rows: Sequence[object]) -> list[str]:
    """Also of what is equal and differs in type or in the order of keys: 1, 1.0 and True."""
    return [repr(row) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [1, 40])
@pytest.mark.parametrize("block", [2, 3, 64])
def test_rows_come_back_equal(
    kind: str, times: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "FEWEST_ROWS", block)
    monkeypatch.setattr(packed, "ROWS_IN_BLOCK", block)
    rows = KINDS[kind] * times
    held = pack(iter(rows))
    assert isinstance(held, Packed) == (len(rows) >= block)
    assert written(held) == written(rows)
    assert written([held[place] for place in range(len(rows))]) == written(rows)
    assert held == tuple(rows) if isinstance(held, tuple) else held == rows
    assert held[-1] == rows[-1]
    with pytest.raises(IndexError):
        held[len(rows)]


SLICES = [
    slice(None), slice(3), slice(3, None), slice(4, 9), slice(-3, None), slice(2, 2),
    slice(1, 99, 3), slice(None, None, -1), slice(50, 60),
]  # fmt: skip


@pytest.mark.parametrize("part", SLICES, ids=str)
def test_slices_are_those_of_a_list(part: slice) -> None:
    rows = [replace(QUESTION, id=str(number), text=f"text {number}") for number in range(11)]
    assert list(pack(rows)[part]) == rows[part]


def test_join_keeps_the_order_and_copies_no_column() -> None:
    first, second = pack(QUESTIONS), pack(QUESTIONS[:1])
    both = join(first, second, first)
    assert list(both) == [*QUESTIONS, QUESTIONS[0], *QUESTIONS]
    assert isinstance(both, Packed)
    assert isinstance(first, Packed)
    assert both.blocks[0] is first.blocks[0]
    assert join(QUESTIONS[:1], ()) == (QUESTIONS[0],)


@pytest.mark.parametrize("left_out", [(), (0,), (2, 3), (1, 6, 10), range(1, 11), range(11)])
@pytest.mark.parametrize("block", [2, 4, 64])
def test_rows_are_kept_by_flags(
    left_out: Sequence[int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "ROWS_IN_BLOCK", block)
    rows = [replace(QUESTION, id=str(number), text=f"text {number}") for number in range(11)]
    flags = [number not in left_out for number in range(11)]
    expected = [row for row, flag in zip(rows, flags, strict=True) if flag]
    for given in (pack(rows), rows):
        kept = keep(given, flags)
        assert list(kept) == expected
        assert [*values_of(kept, "text")] == [row.text for row in expected]
        assert [kept[place] for place in range(len(kept))] == expected
        assert list(kept[1:4]) == expected[1:4]
        # Again, of what is kept: the odd places.
        odd = [place % 3 > 0 for place in range(len(kept))]
        assert list(keep(kept, odd)) == [
            row for row, flag in zip(expected, odd, strict=True) if flag
        ]


def test_a_field_is_read_without_its_rows() -> None:
    questions, cells = pack(QUESTIONS), pack(CELLS)
    assert [*values_of(questions, "text")] == [each.text for each in QUESTIONS]
    assert [*values_of(QUESTIONS, "text")] == [each.text for each in QUESTIONS]
    for rows in (cells, CELLS, pack(CELLS * 9)[:4]):
        for key in ("a", "b", "c", "none"):
            assert [*values_of(rows, "values", key)] == [row.values.get(key) for row in CELLS]


def test_rows_by_id_are_those_of_a_dictionary() -> None:
    rows = [replace(QUESTION, id=str(number), text=f"text {number}") for number in range(11)]
    found, expected = by_id(pack(rows)), {row.id: row for row in rows}
    assert found == expected
    assert [*found.values()] == rows
    assert [*found.items()] == [*expected.items()]
    assert found["7"] == rows[7]
    assert "7" in found
    assert "11" not in found
    assert by_id(rows) == expected


def test_ids_stay_the_objects_that_dictionaries_hold() -> None:
    held = pack(QUESTIONS)
    assert all(a is b.id for a, b in zip(values_of(held, "id"), QUESTIONS, strict=True))


@pytest.mark.parametrize("times", [1, 40])
def test_values_of_a_key_change_where_it_is(times: int) -> None:
    def fresh() -> list[Cells]:
        return [Cells(row.origin, {**row.values}) for row in CELLS * times]

    expected = [
        Cells(row.origin, {k: str(v) if k == "a" else v for k, v in row.values.items()})
        for row in fresh()
    ]
    for rows in (fresh(), pack(fresh())):
        assert written(change_values(rows, "values", "a", str)) == written(expected)
        assert change_values(rows, "values", "none", str) == rows


def test_packed_questions_take_little_more_than_their_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As objects 2,000 questions take more than 800 bytes each beside their ids."""
    monkeypatch.setattr(packed, "ROWS_IN_BLOCK", 500)
    count, ids = 2000, [f"q{number:012}" for number in range(2000)]
    tracemalloc.start()
    held = pack(
        Question(id=name, text=name * 20, options=(f"{name}a", f"{name}b"), origin=f"f:{name}")
        for name in ids
    )
    live, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    texts = 20 * 13 + 2 * 14 + 15
    assert len(held) == count
    assert live / count < 1.5 * texts + 100

"""Every record comes back equal, whatever stands in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caft.records import (
    AnswerScore,
    Chain,
    Example,
    Judgement,
    Prediction,
    Question,
    Rationale,
    SampledReply,
    Target,
    TuningNumbers,
)
from caft.store import read_rows, read_table, write_rows, write_table

QUESTION = Question(
    id="q1",
    text="Is “½” > 0.3?\n\ttab, null \x00, 漢字, 🙂",
    options=("yes, it is", "", "[1, 2]"),
    gold_index=0,
    subject="math",
    rationale="Because.\n[[A]]",
    origin="file.jsonl:3",
)
RECORDS: list[Any] = [
    QUESTION,
    Question(id="bare", text="?"),
    replace(QUESTION, options=(), answer_set=("1", "2"), rationale=None),
    AnswerScore(
        question_id="q1",
        predicted="A",
        valid=True,
        correct=False,
        estimates={"answer_entropy": 0.1 + 0.2, "option_entropy": None, "tiny": 5e-324},
    ),
    AnswerScore(question_id="q2", predicted="", valid=False, correct=False),
    Judgement(question_id="q1", estimator="judge_steps", value=4.0, text="[[4]]"),
    SampledReply(
        question_id="q1", sample=7, text="é", parsed=None, correct=False, generated_tokens=2
    ),
    Rationale(question_id="q1", text="a\n[[B]]", answer="B", agrees=True, usd=0.00012, seconds=1.5),
    Rationale(question_id="q2", text="", answer=None, agrees=False, refusal="no answer"),
    Example(
        question_id="q1",
        target=Target.rationale,
        complexity="hard",
        prompt_ids=(1, 2, 151_935),
        completion_ids=(),
    ),
    Chain(
        question_id="q1",
        pieces=("So", " [[A]]", "<end>"),
        entropies=(0.1 + 0.2, 0.0, math.inf),
        margins=(0.5, 1.0, 5e-324),
        parsed=None,
        correct=False,
    ),
    Judgement(question_id="q1", estimator="judge_steps", value=None, text="many", usd=0.00012),
    Prediction(question_id="q1", text="[[A]]", parsed=None, correct=False, generated_tokens=3),
    Prediction(
        question_id="q1",
        text="A",
        parsed="A",
        correct=True,
        generated_tokens=1,
        estimates={"answer_entropy": math.inf},
    ),
]
KINDS = sorted({type(record) for record in RECORDS}, key=lambda kind: kind.__name__)


def test_every_kind_of_record_is_here() -> None:
    import caft.records

    records = {
        value
        for value in vars(caft.records).values()
        if isinstance(value, type)
        and hasattr(value, "__dataclass_fields__")
        and value.__module__ == "caft.records"
    }
    # A stage has one of its numbers, which it keeps as JSON.
    assert records - {TuningNumbers} == set(KINDS)
    assert len(records) == 9


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_records_come_back_equal_and_in_order(kind: type, tmp_path: Path) -> None:
    records = [record for record in RECORDS if type(record) is kind] * 2
    write_table(tmp_path / "t.parquet", kind, records)
    assert read_table(tmp_path / "t.parquet", kind) == records


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_empty_table_keeps_its_columns(kind: type, tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", kind, iter(()))
    assert read_table(tmp_path / "t.parquet", kind) == []
    assert pq.read_schema(tmp_path / "t.parquet").names == list(kind.__dataclass_fields__)


def test_a_column_of_nothing_but_none_keeps_its_type(tmp_path: Path) -> None:
    records = [Question(id=str(index), text="?") for index in range(3)]
    write_table(tmp_path / "t.parquet", Question, records)
    assert read_table(tmp_path / "t.parquet", Question) == records
    assert str(pq.read_schema(tmp_path / "t.parquet").field("gold_index").type) == "int64"


def test_a_value_that_is_no_number_stays_none_of_one(tmp_path: Path) -> None:
    score = replace(RECORDS[3], estimates={"answer_entropy": math.nan})
    write_table(tmp_path / "t.parquet", AnswerScore, [score])
    (back,) = read_table(tmp_path / "t.parquet", AnswerScore)
    assert math.isnan(back.estimates["answer_entropy"])


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "method=sft,seed=1"
    folder.mkdir()
    write_table(folder / "t.parquet", Judgement, [RECORDS[5]])
    assert read_table(folder / "t.parquet", Judgement) == [RECORDS[5]]


def test_a_value_of_the_wrong_type_is_not_bent(tmp_path: Path) -> None:
    import pyarrow as pa

    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_table(tmp_path / "t.parquet", Judgement, [replace(RECORDS[5], question_id=3)])


class Colour(Enum):
    red = "the value is not the name"


@dataclass(frozen=True)
class Painted:
    colour: Colour
    other: Colour | None


def test_enums_are_written_by_name(tmp_path: Path) -> None:
    painted = [Painted(Colour.red, None), Painted(Colour.red, Colour.red)]
    write_table(tmp_path / "t.parquet", Painted, painted)
    assert read_table(tmp_path / "t.parquet", Painted) == painted
    assert pq.read_table(tmp_path / "t.parquet")["colour"].to_pylist() == ["red", "red"]


def test_plain_rows_are_for_other_tools(tmp_path: Path) -> None:
    rows = [{"id": "a", "value": 1.5}, {"id": "b", "value": None}]
    write_rows(tmp_path / "t.parquet", rows)
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == rows


PLAIN = [
    {"id": str(number), "share": [1, 2.5, None][number % 3], "late": None if number < 5 else "é",
     "options": [] if number < 4 else ["a", "b"], "few": None if number != 7 else 3}
    for number in range(10)
]  # fmt: skip


@pytest.mark.parametrize("at_once", [2, 3, 10, 64])
def test_rows_in_parts_are_the_table_that_all_of_them_make_at_once(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    monkeypatch.setattr("caft.store.tables.ROWS_AT_ONCE", at_once)
    whole = pa.Table.from_pylist(PLAIN)
    pq.write_table(whole, tmp_path / "whole.parquet")
    write_rows(tmp_path / "parts.parquet", iter(PLAIN))
    parts = pq.read_table(tmp_path / "parts.parquet")
    assert parts.schema == whole.schema
    assert parts.to_pylist() == whole.to_pylist() == read_rows(tmp_path / "parts.parquet")
    if at_once >= len(PLAIN):
        same = [(tmp_path / name).read_bytes() for name in ("whole.parquet", "parts.parquet")]
        assert same[0] == same[1]


def test_no_rows_are_a_table_without_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.parquet", [])
    assert read_rows(tmp_path / "t.parquet") == []


def test_records_in_parts_come_back_and_one_part_has_the_bytes_of_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [replace(RECORDS[5], question_id=str(number)) for number in range(10)]
    write_table(tmp_path / "one.parquet", Judgement, iter(records))
    whole = pq.read_table(tmp_path / "one.parquet")
    pq.write_table(whole, tmp_path / "whole.parquet")
    same = [(tmp_path / name).read_bytes() for name in ("whole.parquet", "one.parquet")]
    assert same[0] == same[1]
    monkeypatch.setattr("caft.store.tables.ROWS_AT_ONCE", 3)
    write_table(tmp_path / "parts.parquet", Judgement, iter(records))
    assert pq.ParquetFile(tmp_path / "parts.parquet").num_row_groups == 4
    assert read_table(tmp_path / "parts.parquet", Judgement) == records


def test_the_rows_of_one_part_at_a_time_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caft.store.tables.ROWS_AT_ONCE", 50)
    alive = most = 0

    class Counted(dict[str, object]):
        def __init__(self, number: int) -> None:
            nonlocal alive, most
            super().__init__(id=str(number))
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    write_rows(tmp_path / "t.parquet", map(Counted, range(2_000)))
    assert most <= 2 * 50 + 1  # the next part is made before the last one is let go
    assert len(read_rows(tmp_path / "t.parquet")) == 2_000


def test_a_column_that_an_older_table_lacks_has_the_fields_default(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    row = AnswerScore(question_id="q1", predicted="12", valid=True, correct=True)
    write_table(path, AnswerScore, [replace(row, generated_tokens=5)])
    pq.write_table(pq.read_table(path).drop_columns(["generated_tokens"]), path)
    assert read_table(path, AnswerScore) == [row]

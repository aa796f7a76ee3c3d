"""The same table in every format: gaps, numbers and truth values have one meaning."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from caft.data.cells import as_text, as_whole_number, find_rule, is_missing, is_number, show
from caft.data.config import ColumnsConfig
from local_rows import load, refused

NAN = math.nan
Rows = Sequence[dict[str, Any]]


def as_jsonl(folder: Path, rows: Rows) -> Path:
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_csv(
    folder: Path, rows: Rows, *, separator: str = ",", end: str = "\n", gap: str = ""
) -> Path:
    path = folder / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator=end)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([gap if is_missing(cell) else cell for cell in row.values()])
    return path


def as_parquet(folder: Path, rows: Rows) -> Path:
    path = folder / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


FORMATS: dict[str, Callable[[Path, Rows], Path]] = {
    "jsonl": as_jsonl,
    "parquet": as_parquet,
    "csv": as_csv,
    "semicolons": lambda folder, rows: as_csv(folder, rows, separator=";"),
    "tabs": lambda folder, rows: as_csv(folder, rows, separator="\t"),
    "windows": lambda folder, rows: as_csv(folder, rows, end="\r\n"),
    "gap nan": lambda folder, rows: as_csv(folder, rows, gap="nan"),
    "gap NaN": lambda folder, rows: as_csv(folder, rows, gap="NaN"),
    "gap NA": lambda folder, rows: as_csv(folder, rows, gap="NA"),
    "gap null": lambda folder, rows: as_csv(folder, rows, gap="null"),
    "gap None": lambda folder, rows: as_csv(folder, rows, gap="None"),
}

formats = pytest.mark.parametrize("write", FORMATS.values(), ids=list(FORMATS))


@pytest.mark.parametrize(
    ("column", "tidy"),
    [
        ([2.0, NAN, 3.0], [2, NAN, 3]),
        (["2.0", "nan", "3.0"], ["2", None, "3"]),
        (["2.0", "", "NA", "None", "null", "N/A"], ["2", "", None, None, None, None]),
        ([2.5, 2.0], [2.5, 2.0]),
        (["2.5", "2.0"], ["2.5", "2.0"]),
        (["2.00", "3.00"], ["2.00", "3.00"]),
        (["007", "4.0"], ["007", "4"]),
        ([1e20, 1.0], [1e20, 1.0]),
        ([math.inf, 1.0], [math.inf, 1.0]),
        (["-inf", "1.0"], [-math.inf, "1"]),
        (["inf", "Paris"], ["inf", "Paris"]),
        (["inf"], ["inf"]),
        ([Decimal("4"), Decimal("4.0")], [4, 4]),
        (["None", "Paris"], ["None", "Paris"]),
        (["NA", "Na", "Cl"], ["NA", "Na", "Cl"]),
        (["None", "nan"], [None, None]),
        ([True, False], [True, False]),
        ([[1.0, 2.0], [3.0, NAN]], [[1, 2], [3, NAN]]),
        ([[1.0, 2.5]], [[1.0, 2.5]]),
        ([["0.0", "1.0", "None", "inf"], ["7"]], [["0", "1", "None", "inf"], ["7"]]),
        ([[1.0, None, "NA"]], [[1, None, "NA"]]),
        ([], []),
        ([None], [None]),
    ],
)
def test_a_column_is_tidied_as_a_whole(column: list[object], tidy: list[object]) -> None:
    assert repr([*map(find_rule(column), column)]) == repr(tidy)


def test_what_is_missing_a_number_a_text() -> None:
    missing: list[object] = [None, NAN, Decimal("nan"), "", "  ", "nan", "<NA>", "NaT"]
    assert all(map(is_missing, missing))
    assert not any(map(is_missing, ["NaN", "None", "NA", "null", "Nan", 0, False, [], math.inf]))
    assert all(map(is_number, [1, 1.5, "1", "-1.5", "1e5", ".5", Decimal(1)]))
    assert not any(map(is_number, [True, None, "", "1,5", "1 000", "x", "nan", "inf", "1_000"]))
    assert [as_text(value) for value in (4, 2.5, True, " x ", None, NAN, math.inf, [1])] == [
        "4", "2.5", "True", "x", None, None, None, None,
    ]  # fmt: skip
    wholes: list[object] = [4, 4.0, "4", "4.0", Decimal("4"), " 4 ", "-4"]
    assert [as_whole_number(value) for value in wholes] == [4, 4, 4, 4, 4, 4, -4]
    assert [as_whole_number(v) for v in (True, 4.5, "4.5", "x", "9" * 5000, math.inf)] == [None] * 6


def test_a_value_is_shown_short_however_long_or_deep() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert len(show("x" * 10**7)) < 100
    assert len(show(deep)) < 100
    assert len(show({"a": list(range(10**5))})) < 100


def wide(answers: Sequence[Any], last: Sequence[Any]) -> Rows:
    return [
        {"question": f"Which is {n}?", "A": "a", "B": "b", "C": "c", "D": d, "answer": answer}
        for n, (answer, d) in enumerate(zip(answers, last, strict=True))
    ]


WIDE = ColumnsConfig(options=["A", "B", "C", "D"])


@formats
def test_gaps_at_the_end_are_fewer_options_and_floats_are_indices(
    tmp_path: Path, write: Callable[[Path, Rows], Path]
) -> None:
    rows = wide([1.0, 4.0, 2.0, 3.0, 1.0, 4.0], [None, 7.0, 8.0, None, 9.0, 3.0])
    splits = load(write(tmp_path, rows), columns=WIDE)
    questions = {q.text: q for q in (*splits.train, *splits.validation, *splits.test)}
    assert [questions[row["question"]].gold_index for row in rows] == [0, 3, 1, 2, 0, 3]
    assert questions["Which is 0?"].options == ("a", "b", "c")
    assert questions["Which is 1?"].options == ("a", "b", "c", "7")


@formats
def test_a_gap_is_no_gold_answer(tmp_path: Path, write: Callable[[Path, Rows], Path]) -> None:
    free = [{"question": f"{n} + 1?", "answer": NAN if n == 3 else n + 1.0} for n in range(9)]
    message = refused(write(tmp_path, free), columns=ColumnsConfig(options=None))
    assert re.search("column 'answer' (is empty|holds)", message)
    assert ":4" in message or ":5" in message  # a header is a line of its own
    del free[3]
    splits = load(write(tmp_path, free), columns=ColumnsConfig(options=None))
    questions = (*splits.train, *splits.validation, *splits.test)
    assert {q.text: q.gold_text for q in questions}["4 + 1?"] == "5"


@pytest.mark.parametrize(("write", "gap"), [(as_jsonl, NAN), (as_jsonl, None), (as_parquet, None)])
def test_a_gap_in_a_list_is_no_option(
    tmp_path: Path, write: Callable[[Path, Rows], Path], gap: object
) -> None:
    rows = [{"question": "q?", "options": ["x", "y", gap], "answer": "A"}] * 2
    assert "option 3 is" in refused(write(tmp_path, rows))


def test_a_word_is_a_gap_among_numbers_and_a_text_among_texts(tmp_path: Path) -> None:
    rows = wide(["D", "A", "B", "C"], ["None", "NA", "null", "N/A"])
    for row, text in zip(rows, "xyzw", strict=True):
        row["C"] = text if row["answer"] != "C" else "NA"
    rows[0]["D"] = "None of these"
    splits = load(as_csv(tmp_path, rows), columns=WIDE)
    assert {q.options[3] for q in (*splits.train, *splits.validation, *splits.test)} == {
        "None of these", "NA", "null", "N/A",
    }  # fmt: skip


@pytest.mark.parametrize("write", [as_jsonl, as_parquet, as_csv])
def test_words_for_gaps_are_options_beside_numbers(
    tmp_path: Path, write: Callable[[Path, Rows], Path]
) -> None:
    options = ["0", "1", "None", "NA", "inf", "null"]
    rows = [{"question": f"{n}?", "options": options, "answer": "ABCDEF"[n % 6]} for n in range(9)]
    if write is as_csv:
        rows = [{**row, "options": json.dumps(options)} for row in rows]
    assert {question.options for question in load(write(tmp_path, rows)).train} == {(*options,)}


def test_truth_values_mean_what_they_say(tmp_path: Path) -> None:
    rows = [{"question": f"Is {n} even?", "answer": n % 2 == 0} for n in range(6)]
    answers = {row["question"]: row["answer"] for row in rows}
    for write in (as_jsonl, as_parquet, as_csv):
        for answer_set in (["True", "False"], ["true", "false"]):
            columns = ColumnsConfig(options=None)
            splits = load(write(tmp_path, rows), columns=columns, answer_set=answer_set)
            for question in (*splits.train, *splits.validation, *splits.test):
                assert question.gold_index == (0 if answers[question.text] else 1)
        free = load(write(tmp_path, rows), columns=ColumnsConfig(options=None))
        assert {q.gold_text for q in free.train} == {"True", "False"}
    listed = [{**row, "options": [False, True]} for row in rows]
    splits = load(as_jsonl(tmp_path, listed))
    assert all(q.gold_index == int(answers[q.text]) for q in splits.train)
    assert {q.options for q in splits.train} == {("False", "True")}


def test_lists_as_table_libraries_print_them(tmp_path: Path) -> None:
    rows = [
        {"question": f"{n}?", "options": str(["it's", 'a "b"', "c"]), "answer": "ABC"[n % 3]}
        for n in range(6)
    ]
    assert load(as_csv(tmp_path, rows)).train[0].options == ("it's", 'a "b"', "c")
    for row in rows:
        row["options"] = "['x' 'y' 'z']"
    assert "holds no list of options" in refused(as_csv(tmp_path, rows))

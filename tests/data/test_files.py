"""Reading files as people write them: BOM, CRLF, quotes over lines, and what is broken."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from caft.data.files import adopt_names, read_table, refuse_missing_columns
from caft.errors import UserError


def write(folder: Path, name: str, data: bytes | str) -> str:
    path = folder / name
    path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return str(path)


def refused(path: str) -> str:
    with pytest.raises(UserError) as error:
        read_table(path, "dataset.train_path")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_jsonl_with_bom_crlf_blank_lines_and_line_separators(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '\ufeff{"q": "x\u2028y"}\r\n\r\n  \n{"q": "é", "r": 1}\r\n')
    table = read_table(path, "key")
    assert [row.origin for row in table.rows] == ["a.jsonl:1", "a.jsonl:4"]
    assert [row.values for row in table.rows] == [{"q": "x\u2028y"}, {"q": "é", "r": 1}]
    assert table.columns == ("q", "r")


def test_csv_cells_over_several_lines_keep_their_line_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", '\ufeffq,a\r\n"two\r\nlines, one ""cell""",x\r\nz,y\r\n')
    table = read_table(path, "key")
    assert table.rows[0].values == {"q": 'two\r\nlines, one "cell"', "a": "x"}
    assert [row.origin for row in table.rows] == ["a.csv:2", "a.csv:4"]


def test_parquet_rows_count_from_one(tmp_path: Path) -> None:
    data = pyarrow.table({"q": ["x", "y"], "options": [["a", "b"], None]})
    pyarrow.parquet.write_table(data, tmp_path / "a.parquet")
    table = read_table(str(tmp_path / "a.parquet"), "key")
    assert [row.origin for row in table.rows] == ["a.parquet:1", "a.parquet:2"]
    assert table.rows[0].values == {"q": "x", "options": ["a", "b"]}


@pytest.mark.parametrize(
    ("kind", "number", "reason"),
    [
        (pyarrow.timestamp("us"), 2**62, "date value out of"),
        (pyarrow.timestamp("us", tz="Nowhere/X"), 1, ".*Nowhere/X"),
        (pyarrow.timestamp("us", tz="/etc"), 1, ".*/etc"),
    ],
)
def test_a_date_that_python_lacks_is_one_line(
    tmp_path: Path, kind: pyarrow.DataType, number: int, reason: str
) -> None:
    when = pyarrow.array([number], type=kind)
    pyarrow.parquet.write_table(pyarrow.table({"when": when}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=rf"a\.parquet: not readable as parquet \({reason}"):
        read_table(str(tmp_path / "a.parquet"), "dataset.train_path")


def test_missing_file_names_key_and_nearest(tmp_path: Path) -> None:
    write(tmp_path, "questions.jsonl", "{}")
    message = refused(str(tmp_path / "question.jsonl"))
    assert message.startswith("dataset.train_path=")
    assert "no such file" in message
    assert "did you mean" in message
    assert "questions.jsonl" in message
    assert "no such file" in refused(str(tmp_path / "nowhere" / "x.jsonl"))


@pytest.mark.parametrize(
    ("name", "data", "named"),
    [
        ("a.jsonl", '{"q": 1}\n{"q": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", '{"q": 1}\n[1, 2]\n', "a.jsonl:2: a JSON list"),
        ("a.jsonl", b'{"q": "ok"}\n{"q": "\xff"}\n', "a.jsonl:2: not UTF-8 (byte 0xff"),
        ("a.jsonl", '{"q": 1}'.encode("utf-16"), "a.jsonl:1: not UTF-8"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: "),
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.json", "", "has no rows"),
        ("a.json", '\n{"data": [\n {"q": 1},\n {"q": 2,}\n]}', "a.json:4: not JSON ("),
        ("a.json", '{"q": 1}\n{"q": \n', "a.json:2: not JSON"),
        ("a.json", '{"q": 1,}\n{"q": 2}\n', "a.json:1: not JSON"),
        ("a.json", '{\n"q": 1}\n{\n"q": 2}\n', "a.json:3: not JSON (Extra data"),
        ("a.json", '[{"q": 1}] x', "a.json:1: not JSON (Extra data at column 12)"),
        ("a.json", '{"q": 1}\n5\n', "a.json:2: a JSON int"),
        ("a.json", "5", "a.json:1: a JSON int"),
        ("a.json", "[" * 100_000, "a.json: JSON nested too deeply"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "q,a\n", "has no rows"),
        ("a.csv", "q,a\nx,y\nx,y,z\n", "a.csv:3: 3 cells, but the header has 2"),
        ("a.csv", 'q,a\nx,y\n"x,y\n', "a.csv:3: not readable as CSV"),
        ("a.csv", b"q,a\nx,y\nx,\xe9\n", "a.csv:3: not UTF-8 (byte 0xe9"),
        ("a.parquet", "no parquet", "a.parquet: not readable as parquet"),
        ("a.xlsx", "x", "ends in '.xlsx'; give a file that ends in .jsonl, .csv, .parquet"),
    ],
)
def test_broken_files_are_named_by_line(
    tmp_path: Path, name: str, data: bytes | str, named: str
) -> None:
    assert named in refused(write(tmp_path, name, data))


def test_several_broken_lines_are_counted(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a.jsonl", '{"q": 1}\nx\n{"q": 2}\ny\nz\n'))
    assert message.startswith("a.jsonl:2: not JSON")
    assert "(2 more rows" in message


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in refused(str(tmp_path))


def test_renamed_column_is_suggested(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.jsonl", '{"question": "x", "answr": "y"}'), "key")
    with pytest.raises(UserError) as error:
        refuse_missing_columns(table, {"dataset.columns.answer": "answer"})
    assert "did you mean 'answr'?" in str(error.value)
    assert "it has question, answr" in str(error.value)


def test_a_column_is_suggested_once_where_it_is_nearest(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.jsonl", '{"questions": "x", "answr": "y"}'), "key")
    wanted = {"k": "question_2", "l": "question", "m": "answer"}
    with pytest.raises(UserError, match=r"; give k=NAME l=questions m=answr$"):
        refuse_missing_columns(table, wanted)
    with pytest.raises(
        UserError, match=r"k is 'question', but a\.jsonl has no such column; it has"
    ):
        refuse_missing_columns(table, {"k": "question", "l": "questions"})


def columns_of(folder: Path, data: str, name: str = "a.csv") -> tuple[tuple[str, ...], object]:
    table = read_table(write(folder, name, data), "key")
    return table.columns, table.rows[0].values


@pytest.mark.parametrize(
    "data",
    [
        "q,a\nx,y\n",
        ",q,a\n0,x,y\n",
        "q,a,\nx,y,\n",
        "q,a,,\nx,y\n",
        "q,a\nx,y,,\n",
        "q,,a\nx,note,y\n",
        "q;a\nx;y\n",
        "q\ta\nx\ty\n",
        '"q";"a"\r\n"x";"y"\r\n',
        ";q;a\n0;x;y\n",
        "sep=;\nq;a\nx;y\n",
        "sep=|\r\nq|a\r\nx|y\r\n",
        '"q","a"\n"1","x","y"\n"2","z","w"\n',
    ],
)
def test_columns_without_a_name_and_other_separators(tmp_path: Path, data: str) -> None:
    assert columns_of(tmp_path, data) == (("q", "a"), {"q": "x", "a": "y"})
    if "\t" in data:
        assert columns_of(tmp_path, data, "a.tsv") == (("q", "a"), {"q": "x", "a": "y"})


def test_commas_in_cells_do_not_outvote_the_separator(tmp_path: Path) -> None:
    assert columns_of(tmp_path, "q;a\nx, y, z;1,5\n") == (("q", "a"), {"q": "x, y, z", "a": "1,5"})
    assert columns_of(tmp_path, "q,a\nx;y,z;w\n") == (("q", "a"), {"q": "x;y", "a": "z;w"})


def test_a_repeated_name_matters_only_where_it_is_asked_for(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.csv", "q,a,note,note\nx,y,1,2\n"), "key")
    refuse_missing_columns(table, {"question": "q", "answer": "a"})
    with pytest.raises(UserError, match="the column name 'note', which k names, occurs twice"):
        refuse_missing_columns(table, {"question": "q", "k": "note"})


def test_a_csv_without_a_header_is_called_that(tmp_path: Path) -> None:
    long = "word " * 100
    for first in (f"Which is it?,a,b,A\n{long},c,d,B\n", f"{long},a,b,A\nx,c,d,A\n"):
        table = read_table(write(tmp_path, "a.csv", first), "key")
        with pytest.raises(UserError) as error:
            refuse_missing_columns(table, {"k": "question", "o": "A", "p": "B", "l": "answer"})
        assert "a.csv:1 is not a header" in str(error.value)
        assert len(str(error.value)) < 250
    table = read_table(write(tmp_path, "b.csv", "Prompt,Reply\nx,y\n"), "key")
    said = "has neither question nor answer; it has Prompt, Reply; give k=NAME l=NAME; if that is"
    with pytest.raises(UserError, match=said):
        refuse_missing_columns(table, {"k": "question", "l": "answer"})


def test_names_in_another_case_are_adopted_where_they_are_clear(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.csv", "QUESTION,Answer,a,A\nx,y,1,2\n"), "key")
    adopted = adopt_names(table, ["question", "answer", "A", "missing"])
    assert adopted.columns == ("question", "answer", "a", "A")
    assert adopted.rows[0].values == {"question": "x", "answer": "y", "a": "1", "A": "2"}
    with pytest.raises(UserError, match="no such column; it has QUESTION, Answer, a, A"):
        refuse_missing_columns(adopted, {"dataset.columns.rationale": "missing"})
    assert adopt_names(table, ["QUESTION"]) is table
    assert adopt_names(table, ["QUESTION", "question"]) is table


def test_a_number_of_thousands_of_digits_stays_a_text(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.jsonl", '{"n": %s, "m": 7}' % ("9" * 5000)), "key")
    assert table.rows[0].values == {"n": "9" * 5000, "m": 7}


def test_lists_as_deep_as_json_allows_are_read_or_refused(tmp_path: Path) -> None:
    for depth in (10, 900, 100_000):
        path = write(tmp_path, "a.jsonl", '{"q": %s}' % ("[" * depth + "]" * depth))
        try:
            read_table(path, "key")
        except UserError as error:
            assert "nested too deeply" in str(error)  # noqa: PT017


def test_what_is_there_but_no_file_is_not_called_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(UserError, match=r"rows\.csv is a device or a pipe; name a file"):
        read_table(str(tmp_path / "rows.csv"), "dataset.train_path")


def test_a_path_that_the_system_refuses_is_named() -> None:
    with pytest.raises(UserError, match=r"^dataset\.train_path='x+.*' cannot be read: ") as error:
        read_table("x" * 5000 + ".csv", "dataset.train_path")
    assert len(str(error.value)) < 200


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone.csv")
    assert f"is a link to {tmp_path / 'gone.csv'}, which is missing" in refused(
        str(tmp_path / "a.csv")
    )


def test_a_cell_of_megabytes_is_read(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.csv", f"q,a\n{'x' * 3_000_000},y\n"), "key")
    assert len(str(table.rows[0].values["q"])) == 3_000_000


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('{"q": "x",\n "a": 1}', 1),
        ('{"q": {"0": "x",\n "1": "y"}}', 1),
        ('{"q": "x"}', 1),
        ('\ufeff{"q": "x"} \n\n{"q": "y"}\n', 2),
    ],
)
def test_a_json_object_is_a_row_however_many_lines_it_takes(
    tmp_path: Path, text: str, count: int
) -> None:
    rows = read_table(write(tmp_path, "a.json", text), "key").rows
    assert len(rows) == count
    assert rows[0].origin == "a.json:1"


def test_the_one_list_of_objects_that_a_json_object_holds_is_the_rows(tmp_path: Path) -> None:
    rows = '[{"q": "x", "a": 1},\n {"q": "y", "a": 2}]'
    wrapped = write(tmp_path, "a.json", f'{{"version": 1, "tags": ["t"], "data": {rows}}}')
    plain = read_table(write(tmp_path, "b.json", rows), "key")
    table = read_table(wrapped, "key")
    assert [row.values for row in table.rows] == [row.values for row in plain.rows]
    two = write(tmp_path, "c.json", f'{{"train": {rows}, "test": {rows}}}')
    assert "several lists of objects (train, test); save each as a file" in refused(two)

"""GSM8K on small files with the hub's own columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from caft.data import QuestionSplits, load_questions
from caft.data.config import Gsm8kConfig
from caft.errors import UserError
from caft.records import Question

GSM8K = pyarrow.schema([("question", pyarrow.string()), ("answer", pyarrow.string())])


def write(path: Path, rows: list[dict[str, object]], schema: pyarrow.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)


def problem(number: int, final: str | None = None) -> dict[str, object]:
    return {
        "question": f"Ann packs {number} boxes of 3 apples. How many apples are that?",
        "answer": f"Each box has 3 apples.\nSo there are {number}*3=<<{number}*3={number * 3}>>"
        f"{number * 3} apples.\n#### {final or number * 3}",
    }


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    rows = [problem(number) for number in range(1, 31)]
    write(tmp_path / "main" / "train-00000-of-00001.parquet", rows, GSM8K)
    tests = [problem(number) for number in range(100, 105)]
    write(tmp_path / "main" / "test-00000-of-00001.parquet", tests, GSM8K)
    return tmp_path


def load_gsm8k(path: Path) -> QuestionSplits:
    return load_questions(Gsm8kConfig(name="gsm8k", path=str(path)))


def everything(splits: QuestionSplits) -> list[Question]:
    return [question for _, part in splits.parts() for question in part]


def test_a_problem_has_its_number_and_its_solution_without_calculator_marks(gsm8k: Path) -> None:
    splits = load_gsm8k(gsm8k)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [27, 3, 5]
    (first,) = (item for item in splits.test if "100 boxes" in item.text)
    assert (first.gold_text, first.options, first.gold_index) == ("300", (), None)
    assert first.rationale == "Each box has 3 apples.\nSo there are 100*3=300 apples."


@pytest.mark.parametrize(
    ("final", "gold"), [("1,234", "1234"), ("-5", "-5"), ("2.5", "2.5"), ("0", "0")]
)
def test_numbers_lose_their_thousands_commas(tmp_path: Path, final: str, gold: str) -> None:
    rows = [problem(number, final) for number in range(1, 31)]
    write(tmp_path / "train.parquet", rows, GSM8K)
    assert {question.gold_text for question in load_gsm8k(tmp_path).train} == {gold}


def test_a_problem_without_a_final_number_is_named(tmp_path: Path) -> None:
    rows = [problem(1), problem(2) | {"answer": "Six."}]
    write(tmp_path / "train.parquet", rows, GSM8K)
    with pytest.raises(UserError, match=r"train.parquet:2: answer 'Six.' does not end in '####"):
        load_gsm8k(tmp_path)
    write(tmp_path / "train.parquet", [problem(1) | {"answer": "Six. " * 9999}], GSM8K)
    with pytest.raises(UserError, match=r"does not end in '####") as error:
        load_gsm8k(tmp_path)
    assert len(str(error.value)) < 250


def test_all_parts_of_a_copy_are_read_and_missing_ones_are_named(tmp_path: Path) -> None:
    for part in range(3):
        rows = [problem(number) for number in range(10 * part + 1, 10 * part + 11)]
        write(tmp_path / "main" / f"train-{part:05}-of-00003.parquet", rows, GSM8K)
    assert len(everything(load_gsm8k(tmp_path))) == 30
    (tmp_path / "main" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(UserError, match="does not hold all parts of train, only train-00000-of"):
        load_gsm8k(tmp_path)


def test_the_file_named_after_the_split_comes_before_those_named_like_it(tmp_path: Path) -> None:
    for name, first in (("test-small", 500), ("test", 300), ("train", 100)):
        rows = [problem(number) for number in range(first, first + 20)]
        write(tmp_path / f"{name}.parquet", rows, GSM8K)
    assert {question.gold_text for question in load_gsm8k(tmp_path).test} == {
        str(3 * number) for number in range(300, 320)
    }
    (tmp_path / "test.parquet").rename(tmp_path / "test-large.parquet")
    with pytest.raises(UserError, match=r"test-large\.parquet, test-small\.parquet; name one test"):
        load_gsm8k(tmp_path)
    (tmp_path / "test-small.parquet").unlink()
    assert len(load_gsm8k(tmp_path).test) == 20


def test_other_files_are_refused_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "1 + 1", "reply": "2"}\n')
    with pytest.raises(UserError, match="has no such column"):
        load_gsm8k(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no train-\*\.parquet"):
        load_gsm8k(tmp_path)

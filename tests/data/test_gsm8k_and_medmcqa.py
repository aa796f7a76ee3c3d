"""The paper's other datasets, on small files with the hubs' own columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from caft.data import QuestionSplits, load_questions
from caft.data.config import Gsm8kConfig, MedmcqaConfig
from caft.errors import UserError
from caft.records import Question

GSM8K = pyarrow.schema([("question", pyarrow.string()), ("answer", pyarrow.string())])
MEDMCQA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("question", pyarrow.string()),
        *[(name, pyarrow.string()) for name in ("opa", "opb", "opc", "opd")],
        ("cop", pyarrow.int64()),
        ("choice_type", pyarrow.string()),
        ("exp", pyarrow.string()),
        ("subject_name", pyarrow.string()),
        ("topic_name", pyarrow.string()),
    ]
)


def write(path: Path, rows: list[dict[str, object]], schema: pyarrow.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)


def problem(number: int, final: str | None = None) -> dict[str, object]:
    return {
        "question": f"Ann packs {number} boxes of 3 apples. How many apples are that?",
        "answer": f"Each box has 3 apples.\nSo there are {number}*3=<<{number}*3={number * 3}>>"
        f"{number * 3} apples.\n#### {final or number * 3}",
    }


def exam(number: int, **change: object) -> dict[str, object]:
    return {
        "id": f"id-{number}",
        "question": f"Which bone is number {number}?",
        **{name: f"bone {name} {number}" for name in ("opa", "opb", "opc", "opd")},
        "cop": number % 4,
        "choice_type": "single",
        "exp": None if number % 2 else "Anatomy books say so.",
        "subject_name": "Anatomy",
        "topic_name": None,
        **change,
    }


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    rows = [problem(number) for number in range(1, 31)]
    write(tmp_path / "main" / "train-00000-of-00001.parquet", rows, GSM8K)
    tests = [problem(number) for number in range(100, 105)]
    write(tmp_path / "main" / "test-00000-of-00001.parquet", tests, GSM8K)
    return tmp_path


@pytest.fixture
def medmcqa(tmp_path: Path) -> Path:
    rows = [exam(number) for number in range(30)]
    write(tmp_path / "data" / "train-00000-of-00001.parquet", rows, MEDMCQA)
    held_out = [exam(number) for number in range(100, 108)]
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", held_out, MEDMCQA)
    unanswered = [exam(number, cop=-1) for number in range(200, 208)]
    write(tmp_path / "data" / "test-00000-of-00001.parquet", unanswered, MEDMCQA)
    return tmp_path


def load_gsm8k(path: Path) -> QuestionSplits:
    return load_questions(Gsm8kConfig(name="gsm8k", path=str(path)))


def load_medmcqa(path: Path) -> QuestionSplits:
    return load_questions(MedmcqaConfig(name="medmcqa", path=str(path)))


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


def test_exam_questions_have_four_options_and_the_validation_rows_are_the_test(
    medmcqa: Path,
) -> None:
    splits = load_medmcqa(medmcqa)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [27, 3, 8]
    assert {question.id for question in splits.test} == {f"id-{n}" for n in range(100, 108)}
    for question in (*splits.train, *splits.validation, *splits.test):
        number = int(question.id.removeprefix("id-"))
        assert question.gold_index == number % 4
        assert question.options[1] == f"bone opb {number}"
        assert (question.subject, question.rationale) == ("Anatomy", None)


def test_an_exam_question_with_an_empty_option_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [exam(number) for number in range(30)]
    rows[3]["opd"], rows[4]["opa"] = "  ", None
    write(tmp_path / "train.parquet", rows, MEDMCQA)
    splits = load_medmcqa(tmp_path)
    assert splits.removed["rows with an empty option"] == 2
    assert sum(len(getattr(splits, name)) for name in ("train", "validation", "test")) == 28


def test_the_base_of_cop_is_decided_from_all_rows_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [exam(number, cop=1 + number % 4) for number in range(30)]
    write(tmp_path / "train.parquet", rows, MEDMCQA)
    with caplog.at_level("INFO"):
        splits = load_medmcqa(tmp_path)
    assert all(q.gold_index == int(q.id.removeprefix("id-")) % 4 for q in splits.train)
    assert "answers in column 'cop' are read as index, counting from 1" in caplog.text


def test_a_cop_that_tells_no_base_is_asked_for_by_a_dial_that_is_there(tmp_path: Path) -> None:
    rows = [exam(number, cop=1 + number % 3) for number in range(30)]
    write(tmp_path / "train.parquet", rows, MEDMCQA)
    with pytest.raises(UserError, match=r"set dataset\.first_index=0 or dataset\.first_index=1"):
        load_medmcqa(tmp_path)
    for base in (0, 1):
        config = MedmcqaConfig(name="medmcqa", path=str(tmp_path), first_index=base)
        for question in load_questions(config).train:
            number = int(question.id.removeprefix("id-"))
            assert question.gold_index == 1 + number % 3 - base


def test_the_unanswered_file_is_refused(medmcqa: Path) -> None:
    with pytest.raises(UserError, match="have no answers; give its train or validation rows"):
        load_medmcqa(medmcqa / "data" / "test-00000-of-00001.parquet")
    names = ",".join(exam(1))
    lines = [",".join(map(str, exam(number, cop=-1).values())) for number in range(9)]
    (medmcqa / "test.csv").write_text("\n".join([names, *lines]))
    with pytest.raises(UserError, match="have no answers; give its train or validation rows"):
        load_medmcqa(medmcqa / "test.csv")


@pytest.mark.parametrize("load", [load_gsm8k, load_medmcqa])
def test_other_files_are_refused_by_their_columns(tmp_path: Path, load: object) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "1 + 1", "reply": "2"}\n')
    with pytest.raises(UserError, match="has no such column"):
        load(tmp_path)  # type: ignore[operator]


@pytest.mark.parametrize("load", [load_gsm8k, load_medmcqa])
def test_an_empty_folder_is_refused(tmp_path: Path, load: object) -> None:
    with pytest.raises(UserError, match=r"holds no train-\*\.parquet"):
        load(tmp_path)  # type: ignore[operator]

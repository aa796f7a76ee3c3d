"""MMLU-Pro on small files with the hub's own columns, and a hub that cannot be reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from caft.data import QuestionSplits, load_questions
from caft.data import columns as reading
from caft.data.config import ColumnsConfig, DatasetConfig, LocalConfig
from caft.data.files import Row
from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted, write_prompt

SCHEMA = pyarrow.schema(
    [
        ("question_id", pyarrow.int64()),
        ("question", pyarrow.string()),
        ("options", pyarrow.list_(pyarrow.string())),
        ("answer", pyarrow.string()),
        ("answer_index", pyarrow.int64()),
        ("cot_content", pyarrow.string()),
        ("category", pyarrow.string()),
        ("src", pyarrow.string()),
    ]
)


def row(number: int, solution: str = "", **change: object) -> dict[str, object]:
    return {
        "question_id": number,
        "question": f"Question {number}?",
        "options": [f"option {place}" for place in range(3 + number % 8)],
        "answer": "ABC"[number % 3],
        "answer_index": number % 3,
        "cot_content": solution,
        "category": "law",
        "src": "ori_mmlu-jurisprudence",
        **change,
    }


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder laid out as on the hub."""
    solution = "A: Let's think step by step. It is so. The answer is (A)."
    write(
        tmp_path / "data" / "validation-00000-of-00001.parquet",
        [row(number, solution) for number in range(6)],
    )
    write(
        tmp_path / "data" / "test-00000-of-00001.parquet",
        [row(number) for number in range(70, 130)],
    )
    return tmp_path


@cache
def composed() -> DatasetConfig:
    return compose(["dataset=mmlu_pro"]).dataset


def load(path: Path, **dials: Any) -> QuestionSplits:
    return load_questions(replace(composed(), path=str(path), **dials))  # type: ignore[call-arg]


def test_test_rows_are_divided_and_validation_rows_are_shots(copy: Path) -> None:
    splits = load(copy, prompt=PromptConfig(shots=3))
    sizes = [len(getattr(splits, name)) for name in ("train", "validation", "test", "shots")]
    assert sizes == [48, 6, 6, 3]
    assert all(int(question.id) < 6 for question in splits.shots)
    questions = [*splits.train, *splits.validation, *splits.test]
    assert {int(question.id) for question in questions} == set(range(70, 130))
    for question in questions:
        assert question.gold_index == int(question.id) % 3
        assert len(question.options) == 3 + int(question.id) % 8
        assert question.subject == "law"
        assert question.rationale is None


PROMPT = """\
Question: Question 0?
A. option 0
B. option 1
C. option 2
Solution: Let's think step by step. It is so. The answer is (A). [[A]]

Question: Question 72?
A. option 0
B. option 1
C. option 2
Solution:"""
"""What a reader of its own made of the same rows, byte by byte."""


def test_a_shot_stands_in_the_prompt_without_the_opener_of_its_solution(copy: Path) -> None:
    splits = load(copy, prompt=PromptConfig(shots=1))
    shot = splits.shots[0]
    question = next(each for each in splits.train if len(each.options) == 3)
    prompt = write_prompt(question, composed().prompt, Wanted.rationale, chat=False, shots=[shot])
    assert prompt.text == PROMPT


@pytest.mark.parametrize("name", ["data/test-00000-of-00001.parquet", "."])
def test_a_copy_without_shots_has_them_drawn(copy: Path, name: str) -> None:
    (copy / "data" / "validation-00000-of-00001.parquet").unlink()
    splits = load(copy / name, test=10, prompt=PromptConfig(shots=2))
    sizes = [len(getattr(splits, name)) for name in ("train", "validation", "test", "shots")]
    assert sizes == [42, 6, 10, 2]


def test_repeated_rows_are_dropped_by_default(copy: Path) -> None:
    rows = [row(number) for number in range(70, 90)]
    rows.append(row(90, question="Question 70?", options=rows[0]["options"]))
    write(copy / "data" / "test-00000-of-00001.parquet", rows)
    assert load(copy).removed == {"train rows: question repeated": 1}


def test_more_shots_than_validation_rows(copy: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.prompt\.shots is 7, but .* 6 of the questions"):
        load(copy, prompt=PromptConfig(shots=7))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"question": "x", "answer": "A"}\n')
    with pytest.raises(UserError, match="it has question, answer"):
        load(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"dataset\.train_split is 'test', but .*empty has no such"):
        load(tmp_path / "empty")
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "nowhere.parquet")


UNREACHABLE = """
from caft.data import load_questions
from caft.data.config import HubConfig
from caft.errors import UserError
try:
    load_questions(HubConfig(name="mmlu_pro", id="TIGER-Lab/MMLU-Pro"))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "hub", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}], ids=["dead", "offline"]
)
def test_an_unreachable_hub_is_one_line(tmp_path: Path, hub: dict[str, str]) -> None:
    # The hub client reads its environment on import, so it is asked in a process of its own.
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE],
        env={**os.environ, **hub, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert "TIGER-Lab/MMLU-Pro" in line
    assert "dataset.path=" in line


def test_the_front_door_loads_no_framework() -> None:
    code = (
        "import sys, caft.data\n"
        "print([m for m in ('pyarrow', 'huggingface_hub', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("index", ["0", 0.0, -5, 10**9])
def test_an_index_that_contradicts_its_letter_is_named_however_it_is_written(
    tmp_path: Path, index: object
) -> None:
    rows = [row(number, answer="B", answer_index=index) for number in range(1, 9)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    with pytest.raises(UserError, match=r"rows.jsonl:1: .*(different answers|not among)"):
        load(path)


def test_one_contradiction_among_many_published_rows_is_refused(copy: Path) -> None:
    rows = [row(number) for number in range(70, 170)]
    rows[50]["answer"] = "C"
    write(copy / "data" / "test-00000-of-00001.parquet", rows)
    line = r"parquet:51: column 'answer_index' says 0 and 'answer' says 'C', which are different"
    with pytest.raises(UserError, match=line):
        load(copy)
    columns = replace(composed().columns, second_answer=None)  # type: ignore[attr-defined]
    assert load(copy, columns=columns).train


def test_second_answers_are_compared_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    compare = reading._disagrees

    def note(row: Row, *words: Any) -> bool:
        compared.append(row.origin)
        return compare(row, *words)

    monkeypatch.setattr(reading, "_disagrees", note)
    load(copy)
    assert len(compared) == len({*compared}) > 6


PAINT = ["red", "green", "blue"]
NUMBERED: dict[str, Any] = {"options": {"label": ["1", "2", "3"], "text": PAINT}}
NAMED: dict[str, Any] = {"options": [{"id": f"x{n}", "text": text} for n, text in enumerate(PAINT)]}


@pytest.mark.parametrize(
    ("more", "both", "wrong", "line"),
    [
        (NAMED, [lambda n: f"x{n % 3}"] * 2, "x2", "'x0' and 'Key' says 'x2'"),
        (NAMED, [lambda n: f"x{n % 3}", lambda n: n % 3], 2, "'x0' and 'Key' says 2"),
        (NAMED, [lambda n: PAINT[n % 3], lambda n: f"x{n % 3}"], "x2", "'red' and 'Key' says 'x2'"),
        (NUMBERED, [lambda n: str(1 + n % 3), lambda n: n % 3], 2, "'1' and 'Key' says 2"),
        ({}, [lambda n: ("yes", "No")[n % 2]] * 2, "No", "'yes' and 'Key' says 'No'"),
        ({}, [lambda n: n % 2 == 0] * 2, False, "True and 'Key' says False"),
        (
            {},
            [lambda n: f"So.\n#### {n},000", lambda n: f"{n},000"],
            "7",
            "'So.\\n#### 6,000' and ",
        ),
        ({}, [lambda n: f"It is:\n#### {n}"] * 2, "7", "and 'Key' says '7'"),
    ],
)
def test_a_second_answer_is_compared_as_the_first_is_read_and_quoted_as_it_is(
    tmp_path: Path, more: dict[str, Any], both: list[Any], wrong: object, line: str
) -> None:
    path = tmp_path / "mine.jsonl"

    def read(change: dict[str, object]) -> QuestionSplits:
        first, second = both
        rows = [
            {"question": f"{n}?", **more, "answer": first(n), "key": second(n)} for n in range(30)
        ]
        rows[6] |= change
        path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        columns = ColumnsConfig(second_answer="Key")
        return load_questions(LocalConfig(name="mine", train_path=str(path), columns=columns))

    assert read({}).train
    with pytest.raises(
        UserError, match=r"^mine.jsonl:7: column 'answer' says .*different"
    ) as error:
        read({"key": wrong})
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        (lambda n: "ABC"[n % 3], lambda n: n % 3, 2),
        (lambda n: "ABC"[n % 3], lambda n: 1 + n % 3, 2),
        (lambda n: f"so {n % 3}", lambda n: "abc"[n % 3], "C"),
        (lambda n: 1 + n % 3, lambda n: f"so {n % 3}", "so 1"),
        (lambda n: 1 + n % 3, lambda n: f"so {n % 3}", None),
    ],
)
def test_any_file_may_have_its_answers_twice_in_any_form(
    tmp_path: Path, first: Any, second: Any, wrong: object
) -> None:
    options = ["so 0", "so 1", "so 2"]
    rows = [
        {"question": f"{n}?", "options": options, "answer": first(n), "key": second(n)}
        for n in range(30)
    ]
    path = tmp_path / "mine.jsonl"

    def read() -> QuestionSplits:
        path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        columns = ColumnsConfig(second_answer="Key")
        dials: dict[str, Any] = {"columns": columns, "first_index": 1 if first(0) == 1 else None}
        return load_questions(LocalConfig(name="mine", train_path=str(path), **dials))

    assert all(q.gold_index == int(q.text[:-1]) % 3 for q in read().train)
    rows[6]["key"] = wrong
    with pytest.raises(UserError, match=r"^mine.jsonl:7: column 'answer' says .* and 'Key' says"):
        read()

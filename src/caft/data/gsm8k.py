"""GSM8K: grade school problems whose answers are numbers, with worked solutions.

A row's `answer` is a solution, its steps annotated for a calculator (<<3*4=12>>), and below it
`#### 12`. The annotations are no part of the prose and leave it; the number is the gold answer.
"""

from __future__ import annotations

import re

from caft.data.cells import show
from caft.data.columns import plan_reading, read_questions
from caft.data.config import AnswerForm, ColumnsConfig, Gsm8kConfig
from caft.data.dedup import Pools, divide
from caft.data.files import Row, Table, read_table, refuse_missing_columns
from caft.data.hub import obtain_files
from caft.data.row_errors import read_each
from caft.data.splits import QuestionSplits
from caft.errors import UserError

COLUMNS = ColumnsConfig(options=None, answer="number", rationale="solution")
FILES = {
    "train": "main/train-00000-of-00001.parquet",
    "test": "main/test-00000-of-00001.parquet",
}
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"####\s*(-?[\d,]*\.?\d+)\s*$")


def load_gsm8k(config: Gsm8kConfig, *, fetch: bool = True) -> QuestionSplits:
    """All splits: the hub's train and test rows, validation drawn from train.

    Raises UserError where the files cannot be had, and where rows are not GSM8K's.
    """
    tables = {
        split: _read_rows(str(path))
        for split, path in obtain_files(config, FILES, fetch=fetch).items()
    }
    reading = plan_reading(list(tables.values()), COLUMNS, answer_form=AnswerForm.text)
    questions = {split: read_questions(table, reading) for split, table in tables.items()}
    return divide(Pools(train=questions["train"], test=questions.get("test")), config)


def ends_in_number(answer: str) -> bool:
    """Whether a text is a worked solution as GSM8K writes them."""
    return _FINAL.search(answer) is not None


def _read_rows(path: str) -> Table:
    table = read_table(path, "dataset.path")
    refuse_missing_columns(table, {"GSM8K's column": "question", "GSM8K's other column": "answer"})
    rows = read_each(table.rows, _part_answer)
    return Table(table.name, ("question", "number", "solution"), rows)


def _part_answer(row: Row) -> Row:
    answer = row.values.get("answer")
    final = _FINAL.search(answer) if isinstance(answer, str) else None
    if not isinstance(answer, str) or final is None:
        raise UserError(
            f"{row.origin}: answer {show(answer)} does not end in '#### NUMBER'; give GSM8K's own "
            "rows"
        )
    solution = _CALCULATOR.sub("", answer[: final.start()]).strip()
    number = final[1].replace(",", "")
    values = {"question": row.values.get("question"), "number": number, "solution": solution}
    return Row(row.origin, values)

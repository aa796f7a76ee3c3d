"""GSM8K: grade school problems whose answers are numbers, with worked solutions.

A row's `answer` is a solution, with calculator annotations (<<3*4=12>>), and in its last line
`#### 12`. The annotations are removed; the number is the gold answer.
"""

from __future__ import annotations

import re

from caft.data.cells import show
from caft.data.columns import Reading, read_questions
from caft.data.config import ColumnsConfig, Gsm8kConfig
from caft.data.dedup import divide
from caft.data.files import Row, Table
from caft.data.hub import read_published
from caft.data.row_errors import read_each
from caft.data.splits import QuestionSplits
from caft.errors import UserError

COLUMNS = ColumnsConfig(options=None, answer="number", rationale="solution")
FILES = {
    "train": "main/train-00000-of-00001.parquet",
    "test": "main/test-00000-of-00001.parquet",
}
_CALCULATOR = re.compile(r"<<[^<>]*>>")
FINAL_NUMBER = re.compile(r"####\s*(-?[\d,]*\.?\d+)\s*$")


def load_gsm8k(config: Gsm8kConfig, *, fetch: bool = True) -> QuestionSplits:
    """All splits: the hub's train and test rows, validation drawn from train.

    Raises UserError if the files cannot be read, or if a row is not GSM8K's.
    """
    published = read_published(config, FILES, ("question", "answer"), fetch=fetch)
    tables = {
        split: Table(
            table.name,
            ("question", "number", "solution"),
            read_each(table.rows, separate_answer),
        )
        for split, table in published.items()
    }
    return divide(config, **read_questions(tables, Reading(columns=COLUMNS)))


def separate_answer(row: Row) -> Row:
    """The row's `answer` as `number` and `solution`. UserError if it does not end in a number."""
    answer = row.values.get("answer")
    final = FINAL_NUMBER.search(answer) if isinstance(answer, str) else None
    if not isinstance(answer, str) or final is None:
        raise UserError(
            f"{row.origin}: answer {show(answer)} does not end in '#### NUMBER'; give GSM8K's own "
            "rows"
        )
    solution = _CALCULATOR.sub("", answer[: final.start()]).strip()
    number = final[1].replace(",", "")
    values = {"question": row.values.get("question"), "number": number, "solution": solution}
    return Row(row.origin, values)

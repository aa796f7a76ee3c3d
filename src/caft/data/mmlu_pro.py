"""MMLU-Pro: its test rows are our questions, its 70 validation rows our shots.

The validation rows carry worked solutions and serve as the benchmark's own solved examples; the
12,032 test rows carry none, and are divided into train, validation and test by dataset.seed.
"""

from __future__ import annotations

import string
from pathlib import Path

from caft.data.cells import as_whole_number, show
from caft.data.columns import plan_reading, read_questions
from caft.data.config import AnswerForm, ColumnsConfig, MmluProConfig
from caft.data.dedup import Pools, divide
from caft.data.files import Row, Table, read_table, refuse_missing_columns
from caft.data.hub import obtain_files
from caft.data.row_errors import read_each
from caft.data.splits import QuestionSplits
from caft.errors import UserError

COLUMNS = ColumnsConfig(
    id="question_id",
    question="question",
    options=["options"],
    answer="answer_index",
    subject="category",
    rationale="cot_content",
)
LETTER_COLUMN = "answer"
FILES = {
    "test": "data/test-00000-of-00001.parquet",
    "validation": "data/validation-00000-of-00001.parquet",
}
SOLUTION_OPENER = "A:"


def load_mmlu_pro(config: MmluProConfig, *, fetch: bool = True) -> QuestionSplits:
    """All splits, from the hub's files or from the copy at `config.path`.

    Raises UserError where neither can be had, and where rows are not MMLU-Pro's.
    """
    files = obtain_files(config, FILES, fetch=fetch)
    tables = {split: _read_rows(path) for split, path in files.items()}
    reading = plan_reading(
        list(tables.values()),
        COLUMNS,
        answer_form=AnswerForm.index,
        first_index=0,
        refuse_equal=False,
    )
    questions = {split: read_questions(table, reading) for split, table in tables.items()}
    return divide(Pools(train=questions["test"], shots=questions.get("validation")), config)


def _read_rows(path: Path) -> Table:
    table = read_table(str(path), "dataset.path")
    refuse_missing_columns(table, {"MMLU-Pro's column": LETTER_COLUMN})
    rows = read_each(table.rows, _check_and_trim)
    return Table(table.name, table.columns, rows)


def _check_and_trim(row: Row) -> Row:
    letter = row.values.get(LETTER_COLUMN)
    index = as_whole_number(row.values.get(COLUMNS.answer))
    letters = string.ascii_uppercase
    if index is not None and 0 <= index < len(letters) and letter != letters[index]:
        raise UserError(
            f"{row.origin}: answer {show(letter)} and answer_index {index} point to different "
            "options; give MMLU-Pro's own rows"
        )
    solution = row.values.get(COLUMNS.rationale or "")
    if not isinstance(solution, str):
        return row
    trimmed = solution.strip().removeprefix(SOLUTION_OPENER).strip()
    return Row(row.origin, {**row.values, COLUMNS.rationale or "": trimmed})

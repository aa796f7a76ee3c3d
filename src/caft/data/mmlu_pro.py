"""MMLU-Pro: its test rows are our questions, its 70 validation rows our shots.

The validation rows have worked solutions and are the benchmark's own solved examples. The 12,032
test rows have none, and are divided into train, validation and test by dataset.seed.
"""

from __future__ import annotations

import string
from dataclasses import replace

from caft.data.cells import as_whole_number, show
from caft.data.columns import Reading, read_questions
from caft.data.config import AnswerForm, ColumnsConfig, MmluProConfig
from caft.data.dedup import divide
from caft.data.files import Row
from caft.data.hub import read_published
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
READING = Reading(columns=COLUMNS, answer_form=AnswerForm.index, first_index=0, refuse_equal=False)
FILES = {
    "test": "data/test-00000-of-00001.parquet",
    "validation": "data/validation-00000-of-00001.parquet",
}


def load_mmlu_pro(config: MmluProConfig, *, fetch: bool = True) -> QuestionSplits:
    """All splits, from the hub's files or from the copy at `config.path`.

    Raises UserError if neither can be read, or if the rows are not MMLU-Pro's.
    """
    published = read_published(config, FILES, ("answer",), fetch=fetch)
    tables = {
        split: replace(table, rows=read_each(table.rows, _check_and_trim))
        for split, table in published.items()
    }
    questions = read_questions(tables, READING)
    return divide(config, train=questions["test"], shots=questions.get("validation"))


def _check_and_trim(row: Row) -> Row:
    letter, index = row.values.get("answer"), as_whole_number(row.values.get("answer_index"))
    letters = string.ascii_uppercase
    if index is not None and 0 <= index < len(letters) and letter != letters[index]:
        raise UserError(
            f"{row.origin}: answer {show(letter)} and answer_index {index} point to different "
            "options; give MMLU-Pro's own rows"
        )
    solution = row.values.get("cot_content")
    if not isinstance(solution, str):
        return row
    trimmed = solution.strip().removeprefix("A:").strip()
    return Row(row.origin, {**row.values, "cot_content": trimmed})

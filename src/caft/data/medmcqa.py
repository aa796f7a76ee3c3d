"""MedMCQA: medical entrance exams, four options a question.

The hub's test rows have no answers, so its validation rows are our test questions. The column
`exp` explains many answers but is no worked solution that ends in one: it is left out, and a
teacher is needed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from caft.data.cells import as_whole_number, is_missing
from caft.data.columns import plan_reading, read_questions
from caft.data.config import AnswerForm, ColumnsConfig, MedmcqaConfig
from caft.data.dedup import Pools, divide
from caft.data.files import Row, Table, read_table, refuse_missing_columns
from caft.data.hub import obtain_files
from caft.data.splits import QuestionSplits
from caft.errors import UserError

OPTIONS = ("opa", "opb", "opc", "opd")
COLUMNS = ColumnsConfig(
    id="id",
    question="question",
    options=list(OPTIONS),
    answer="cop",
    subject="subject_name",
)
FILES = {
    "train": "data/train-00000-of-00001.parquet",
    "validation": "data/validation-00000-of-00001.parquet",
}
NO_ANSWER = -1


def load_medmcqa(config: MedmcqaConfig, *, fetch: bool = True) -> QuestionSplits:
    """All splits: training rows, validation drawn from them, the hub's validation rows as test.

    A row with an empty option is left out and counted: it is nobody's to mend. Raises UserError
    where the files cannot be had, and where rows are not MedMCQA's.
    """
    tables = {
        split: _read_rows(path) for split, path in obtain_files(config, FILES, fetch=fetch).items()
    }
    whole = {split: _with_all_options(table) for split, table in tables.items()}
    reading = plan_reading(
        list(whole.values()),
        COLUMNS,
        answer_form=AnswerForm.index,
        first_index=config.first_index,
        refuse_equal=False,
    )
    questions = {split: read_questions(table, reading) for split, table in whole.items()}
    pools = Pools(train=questions["train"], test=questions.get("validation"))
    dropped = sum(len(tables[split].rows) - len(whole[split].rows) for split in tables)
    splits = divide(pools, config)
    if not dropped:
        return splits
    return replace(splits, removed={**splits.removed, "rows with an empty option": dropped})


def _read_rows(path: Path) -> Table:
    table = read_table(str(path), "dataset.path")
    names = (COLUMNS.id, COLUMNS.question, *OPTIONS, COLUMNS.answer)
    refuse_missing_columns(table, {f"MedMCQA's column {name}": str(name) for name in names})
    if all(as_whole_number(row.values.get(COLUMNS.answer)) == NO_ANSWER for row in table.rows):
        raise UserError(
            f"dataset.path: {table.name} holds test rows of MedMCQA, which have no answers; give "
            "its train or validation rows"
        )
    return table


def _with_all_options(table: Table) -> Table:
    return replace(table, rows=tuple(row for row in table.rows if _has_all_options(row)))


def _has_all_options(row: Row) -> bool:
    return not any(is_missing(row.values.get(name)) for name in OPTIONS)

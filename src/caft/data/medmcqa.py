"""MedMCQA: medical entrance exams, four options a question.

The hub's test rows have no answers, so its validation rows are our test questions. The column
`exp` explains answers but does not end in one: it is not read, and a teacher is needed.
"""

from __future__ import annotations

from dataclasses import replace

from caft.data.cells import as_whole_number, is_missing
from caft.data.columns import Reading, read_questions
from caft.data.config import AnswerForm, ColumnsConfig, MedmcqaConfig
from caft.data.dedup import divide
from caft.data.files import Table
from caft.data.hub import read_published
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.packed import pack

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

    A row with an empty option is left out and counted, since the user cannot correct it. Raises
    UserError if the files cannot be read, or if the rows are not MedMCQA's.
    """
    published = read_published(config, FILES, ("id", "question", *OPTIONS, "cop"), fetch=fetch)
    for table in published.values():
        _refuse_unanswered(table)
    tables = {split: _with_all_options(table) for split, table in published.items()}
    reading = Reading(
        columns=COLUMNS,
        answer_form=AnswerForm.index,
        first_index=config.first_index,
        refuse_equal=False,
    )
    questions = read_questions(tables, reading)
    splits = divide(config, train=questions["train"], test=questions.get("validation"))
    dropped = sum(len(published[split].rows) - len(tables[split].rows) for split in tables)
    if not dropped:
        return splits
    return replace(splits, removed={**splits.removed, "rows with an empty option": dropped})


def _refuse_unanswered(table: Table) -> None:
    if all(as_whole_number(row.values.get("cop")) == NO_ANSWER for row in table.rows):
        raise UserError(
            f"dataset.path: {table.name} holds test rows of MedMCQA, which have no answers; give "
            "its train or validation rows"
        )


def _with_all_options(table: Table) -> Table:
    rows = (
        row for row in table.rows if not any(is_missing(row.values.get(name)) for name in OPTIONS)
    )
    return replace(table, rows=pack(rows))

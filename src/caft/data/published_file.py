"""Files in which somebody published entropies, correctness and classes, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from caft.data.files import Row, read_table
from caft.data.row_errors import read_each
from caft.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row: the question's id, its class and subject as published, entropy in nats."""

    question_id: str
    published_class: str
    subject: str
    entropy: float
    correct: bool


COLUMNS = {
    "question_id": "question_id",
    "published_class": "published_split",
    "subject": "category",
    "entropy": "published_entropy_nats",
    "correct": "published_correct",
}
"""Names of the fields of `PublishedRow` in the files of the paper's authors."""


def read_published_file(path: str, columns: Mapping[str, str] = COLUMNS) -> list[PublishedRow]:
    """Every row, repeated ones included. UserError where a column or a value is missing."""
    table = read_table(path, "path")
    missing = [name for name in columns.values() if name not in table.columns]
    if missing:
        raise UserError(
            f"{table.name} has no column {', '.join(missing)}; it has {', '.join(table.columns)}"
        )
    return list(read_each(table.rows, lambda row: _read_row(row, columns)))


def _read_row(row: Row, columns: Mapping[str, str]) -> PublishedRow:
    values = {field: row.values[column] for field, column in columns.items()}
    entropy, correct = values["entropy"], values["correct"]
    if isinstance(entropy, bool) or not isinstance(entropy, int | float):
        raise UserError(f"{row.origin}: {columns['entropy']} is {entropy!r}; give a number in nats")
    if not isinstance(correct, bool):
        raise UserError(f"{row.origin}: {columns['correct']} is {correct!r}; give true or false")
    return PublishedRow(
        question_id=str(values["question_id"]),
        published_class=str(values["published_class"]),
        subject=str(values["subject"]),
        entropy=float(entropy),
        correct=correct,
    )


def count_overlap(rows: Sequence[PublishedRow]) -> dict[tuple[str, str], int]:
    """How many questions stand in both of two classes; pairs without any are left out."""
    classes_of: dict[str, set[str]] = {}
    for row in rows:
        classes_of.setdefault(row.question_id, set()).add(row.published_class)
    pairs = Counter(
        pair for classes in classes_of.values() for pair in combinations(sorted(classes), 2)
    )
    return dict(sorted(pairs.items()))

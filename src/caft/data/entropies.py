"""A teacher's answer entropies from a file: a column of the user's own, or of another run."""

from __future__ import annotations

from collections.abc import Sequence

from caft.data.files import Table, read_table
from caft.data.row_errors import read_each, refuse_mistakes
from caft.errors import UserError

_ID_COLUMNS = ("question_id", "id")
_ENTROPY_COLUMNS = ("teacher_entropy", "answer_entropy")
"""The second of each is what scores.parquet of a run with the teacher as its model has."""


def read_entropies(path: str, dial: str) -> dict[str, float]:
    """Entropies in nats by question id. UserError for whatever is wrong in the file."""
    table = read_table(path, dial)
    name, value = (
        _find_column(table, columns, f"{dial}={path}")
        for columns in (_ID_COLUMNS, _ENTROPY_COLUMNS)
    )
    read = read_each(table.rows, lambda row: (row, row.read_nats(value)))
    entropies: dict[str, float] = {}
    mistakes = []
    for row, entropy in read:
        question = str(row.values.get(name)).strip()
        if entropies.setdefault(question, entropy) != entropy:
            mistakes.append(f"{row.origin}: question {question!r} has two different entropies")
    refuse_mistakes(mistakes, "give every question one")
    return entropies


def _find_column(table: Table, columns: Sequence[str], given: str) -> str:
    found = next((name for name in columns if name in table.columns), None)
    if found is None:
        raise UserError(
            f"{given} has no column {' or '.join(columns)}; it needs question ids "
            f"({' or '.join(_ID_COLUMNS)}) and the teacher's entropies in nats "
            f"({' or '.join(_ENTROPY_COLUMNS)})"
        )
    return found

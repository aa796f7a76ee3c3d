"""Writing stops where the parser would read an answer, and nowhere else."""

from __future__ import annotations

import pytest

from caft.models.generation import has_closed_marker
from caft.text.parsing import parse_answer


@pytest.mark.parametrize(
    ("tail", "closed"),
    [
        ("so [[A]]", True),
        ("[[[B]]] then", True),
        ("[[A]", False),
        ("the matrix [[1, 2], [3, 4]]", False),
        ("2], [3, 4]] and a list x[y[0]]", False),
        ("the matrix [[1, 2], [3, 4]] has rank [[2]]", True),
    ],
)
def test_a_marker_is_closed_where_the_parser_reads_one(tail: str, closed: bool) -> None:
    assert has_closed_marker(tail) is closed
    assert (parse_answer(tail, ()) is not None) is closed

"""A teacher's entropies from a file of the user's, or of another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caft.data.entropies import read_entropies
from caft.errors import UserError
from caft.store import write_rows

DIAL = "score.teacher_entropies"


def lines(folder: Path, *rows: dict[str, object]) -> str:
    path = folder / "entropies.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_a_file_of_the_users_and_the_scores_of_a_run_are_read(tmp_path: Path) -> None:
    path = lines(tmp_path, {"id": 7, "teacher_entropy": 0.5}, {"id": "8", "teacher_entropy": "0"})
    assert read_entropies(path, DIAL) == {"7": 0.5, "8": 0.0}
    scores = tmp_path / "scores.parquet"
    write_rows(scores, [{"question_id": "q", "answer_entropy": 1.25, "top1_margin": 0.1}])
    assert read_entropies(str(scores), DIAL) == {"q": 1.25}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "entropy": 1}], "has no column teacher_entropy or answer_entropy"),
        ([{"name": "a", "teacher_entropy": 1}], "has no column question_id or id"),
        ([{"id": "a", "teacher_entropy": -1}], "an entropy in nats, 0 or more"),
        ([{"id": "a", "teacher_entropy": "?"}], "an entropy in nats, 0 or more"),
        ([{"id": "a", "teacher_entropy": n} for n in (1, 2)], "'a' has two different entropies"),
    ],
)
def test_what_is_no_entropy_is_refused_by_line(
    tmp_path: Path, rows: list[dict[str, object]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        read_entropies(lines(tmp_path, *rows), DIAL)

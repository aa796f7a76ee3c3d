"""`teacher=file`: rationales that somebody already has, from JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.distill.accept import judge_reply
from caft.distill.inputs import DistillInputs, as_written, no_reply
from caft.errors import UserError
from caft.records import Question, Rationale
from caft.teachers.config import FileTeacherConfig

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def check_file(_questions_have_rationales: bool, teacher: FileTeacherConfig) -> None:
    """UserError where there is no such file."""
    if not teacher.path:
        raise UserError("teacher.path is not set; give a JSONL file with question_id and text")
    if not Path(teacher.path).is_file():
        raise UserError(
            f"teacher.path={teacher.path} is no file; give a JSONL file with question_id and text"
        )


def write_from_file(job: DistillInputs, teacher: FileTeacherConfig) -> list[Rationale]:
    """The file's rows for the questions, several rows of one question as its attempts."""
    check_file(False, teacher)
    rows = read_rationales(Path(teacher.path or ""))
    if job.questions and not any(question.id in rows for question in job.questions):
        raise UserError(
            f"{teacher.path} has rationales for {len(rows)} question ids, none of which is asked "
            f"for, such as {job.questions[0].id!r}; its question_id must be the dataset's ids"
        )
    return [
        judge_reply(question, rationale, job.rules)
        for question in job.questions
        for rationale in _take_rows(question, rows.get(question.id, ()), teacher)
    ]


def read_rationales(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    """The file's rows by question id, in order. UserError names the line of a bad row."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _read_row(line, f"{path}:{number}")
            rows.setdefault(str(row["question_id"]), []).append(row)
    return rows


def _read_row(line: str, origin: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    id_types = str | int
    if not isinstance(row, dict) or not isinstance(row.get("question_id"), id_types):
        raise UserError(f'{origin} is no row like {{"question_id": "q1", "text": "... [[B]]"}}')
    if not isinstance(row.get("text"), str):
        raise UserError(f"{origin} has no text; give the rationale as a string")
    if _HALF_A_PAIR.search(f"{row['question_id']}{row['text']}"):
        raise UserError(f"{origin} holds half a surrogate pair; repair its \\u escapes")
    return row


def _take_rows(
    question: Question, rows: Sequence[Mapping[str, Any]], teacher: FileTeacherConfig
) -> list[Rationale]:
    source = f"file:{teacher.path}"
    if not rows:
        return [no_reply(question, source, "no_reply: the file has no row for it")]
    return [
        as_written(question, row["text"], source, str(row.get("finish_reason") or "stop"), attempt)
        for attempt, row in enumerate(rows)
    ]

"""Rationales that exist already: the dataset's worked solutions, or those of a JSONL file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from caft.distill.accept import judge_reply
from caft.distill.inputs import DistillInputs, unjudged
from caft.errors import UserError
from caft.records import Question, Rationale
from caft.teachers.config import FileTeacherConfig
from caft.text.answers import gold_label
from caft.text.prompts import close_with_answer

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def check_worked(questions_have_rationales: bool) -> None:
    """UserError for a dataset without solutions."""
    if not questions_have_rationales:
        raise UserError(
            "teacher=worked needs worked solutions and the dataset has none; name their column "
            "(dataset.columns.rationale) or use a teacher that writes them: teacher=openai, "
            "openrouter, vllm, transformers_serve, llama_cpp, local_model or file"
        )


def write_worked(inputs: DistillInputs) -> list[Rationale]:
    """Every question's solution, closed with its gold answer."""
    return [
        judge_reply(question, _take_worked(question, inputs), inputs.rules)
        for question in inputs.questions
    ]


def _take_worked(question: Question, inputs: DistillInputs) -> Rationale:
    solution = question.rationale or ""
    if not solution.strip():
        missing = "no_reply: the dataset has no solution for it"
        return unjudged(question_id=question.id, text="", source="worked", refusal=missing)
    text = close_with_answer(solution, gold_label(question, inputs.prompt.option_ids))
    return unjudged(question_id=question.id, text=text, source="worked", finish_reason="stop")


def check_file(teacher: FileTeacherConfig) -> None:
    """UserError if there is no such file."""
    wanted = "give a JSONL file with question_id and text"
    if not teacher.path:
        raise UserError(f"teacher.path is not set; {wanted}")
    if not Path(teacher.path).is_file():
        raise UserError(f"teacher.path={teacher.path} is not a file; {wanted}")


def write_from_file(inputs: DistillInputs, teacher: FileTeacherConfig) -> list[Rationale]:
    """The file's rows for the questions; several rows of one question are its attempts."""
    check_file(teacher)
    rows = read_rationales(Path(teacher.path or ""), f"file:{teacher.path}")
    questions = inputs.questions
    if questions and not any(question.id in rows for question in questions):
        raise UserError(
            f"{teacher.path} has rationales for {len(rows)} question ids, none of which is asked "
            f"for, such as {questions[0].id!r}; its question_id must be the dataset's ids"
        )
    missing = partial(
        unjudged,
        text="",
        source=f"file:{teacher.path}",
        refusal="no_reply: the file has no row for it",
    )
    return [
        judge_reply(question, row, inputs.rules)
        for question in questions
        for row in rows.get(question.id) or [missing(question_id=question.id)]
    ]


def read_rationales(path: Path, source: str) -> dict[str, list[Rationale]]:
    """The file's rows by question id, in order. UserError names the line of a bad row."""
    rows: dict[str, list[Rationale]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = replace(_read_row(line, f"{path}:{number}"), source=source)
            earlier = rows.setdefault(row.question_id, [])
            earlier.append(replace(row, attempt=len(earlier)))
    return rows


def _read_row(line: str, origin: str) -> Rationale:
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    question_id = row.get("question_id") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(question_id, str | int):
        raise UserError(f'{origin} is not a row like {{"question_id": "q1", "text": "... [[B]]"}}')
    text, finish = row.get("text"), row.get("finish_reason")
    if not isinstance(text, str):
        raise UserError(f"{origin} has no text; give the rationale as a string")
    if _HALF_A_PAIR.search(f"{question_id}{text}"):
        raise UserError(f"{origin} holds half a surrogate pair; repair its \\u escapes")
    return unjudged(question_id=str(question_id), text=text, finish_reason=str(finish or "stop"))

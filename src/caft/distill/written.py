"""Rationales that exist already: the dataset's worked solutions, or those of a JSONL file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from caft.distill.accept import judge_reply
from caft.distill.inputs import DistillInputs, unjudged
from caft.errors import UserError
from caft.packed import pack
from caft.records import Question, Rationale, Target
from caft.teachers.config import FileTeacherConfig
from caft.text.answers import answer_labels, gold_label
from caft.text.parsing import last_marker, read_marker
from caft.text.prompts import close_with_answer
from caft.text.thinking import find_thinking

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


_WRITERS = "openai, openrouter, vllm, transformers_serve, llama_cpp or local_model"


def check_worked(questions_have_rationales: bool, targets: Collection[Target] = ()) -> None:
    """UserError for a dataset without any solution, or for targets that one cannot be."""
    _refuse_short("worked", targets)
    if Target.thinking in targets:
        raise UserError(
            "teacher=worked has no reasoning, and the method trains thinking: give "
            f"teacher=file with the field reasoning, or {_WRITERS}; or train the target rationale"
        )
    if not questions_have_rationales:
        raise UserError(
            "teacher=worked needs worked solutions and the dataset has none; name their column "
            f"(dataset.columns.rationale), use a teacher that writes them (teacher=file, "
            f"{_WRITERS}), or do without: method=sft, or until=score"
        )


def _refuse_short(kind: str, targets: Collection[Target]) -> None:
    if Target.short_rationale in targets:
        raise UserError(
            f"teacher={kind} has the texts that it has and writes no short_rationale; use a "
            f"teacher that can be asked for one: teacher={_WRITERS}; or train the target rationale"
        )


def write_worked(inputs: DistillInputs) -> Sequence[Rationale]:
    """Every question's solution; one that does not end in an answer is closed with the gold one."""
    return pack(
        judge_reply(question, _take_worked(question, inputs), inputs.rules)
        for question in inputs.questions
    )


def _take_worked(question: Question, inputs: DistillInputs) -> Rationale:
    solution = question.rationale or ""
    if not solution.strip():
        missing = "no_solution: the dataset has none for it"
        return unjudged(question_id=question.id, text="", source="worked", refusal=missing)
    if not _ends_in_answer(solution, answer_labels(question, inputs.prompt.option_ids)):
        solution = close_with_answer(solution, gold_label(question, inputs.prompt.option_ids))
    return unjudged(question_id=question.id, text=solution, source="worked", finish_reason="stop")


def _ends_in_answer(solution: str, labels: Sequence[str]) -> bool:
    """Whether it ends in a marker with an answer, right or wrong."""
    marker = last_marker(solution)
    if marker is None or re.search(r"\w", solution[marker.end :]):
        return False
    return read_marker(marker, labels) is not None


def check_file(teacher: FileTeacherConfig, targets: Collection[Target] = ()) -> None:
    """UserError if there is no such file, or if it cannot have what the targets need."""
    _refuse_short("file", targets)
    rows = _read_file(teacher).values()
    if Target.thinking in targets and not any(
        row.reasoning or find_thinking(row.text) for each in rows for row in each
    ):
        raise UserError(
            f"no row of teacher.path={teacher.path} has the field reasoning, or a <think> span "
            "in its text, and the method trains thinking; add it, or train the target rationale"
        )


def _read_file(teacher: FileTeacherConfig) -> dict[str, list[Rationale]]:
    """The file's rows by question id; UserError if there is no such file, or no row in it."""
    wanted = "give a JSONL file with question_id and text"
    if not teacher.path:
        raise UserError(f"teacher.path is not set; {wanted}")
    path = Path(teacher.path).expanduser()
    if not path.is_file():
        raise UserError(f"teacher.path={teacher.path} is not a file; {wanted}")
    rows = read_rationales(path, f"file:{teacher.path}")
    if not rows:
        raise UserError(f"teacher.path={teacher.path} has no rows; {wanted}")
    return rows


def write_from_file(inputs: DistillInputs, teacher: FileTeacherConfig) -> Sequence[Rationale]:
    """The file's rows for the questions; several rows of one question are its attempts."""
    rows, questions = _read_file(teacher), inputs.questions
    if questions and not any(question.id in rows for question in questions):
        raise UserError(
            f"{teacher.path} has rationales for other questions alone, such as "
            f"{next(iter(rows))!r}, and none for those that are asked, such as "
            f"{questions[0].id!r}; its question_id must be the dataset's ids"
        )
    missing = partial(
        unjudged,
        text="",
        source=f"file:{teacher.path}",
        refusal="no_row: the file has none for it",
    )
    return pack(
        judge_reply(question, row, inputs.rules)
        for question in questions
        for row in rows.get(question.id) or [missing(question_id=question.id)]
    )


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
    text, finish, told = row.get("text"), row.get("finish_reason"), row.get("reasoning")
    if not isinstance(text, str):
        raise UserError(f"{origin} has no text; give the rationale as a string")
    if not isinstance(told, str | None):
        raise UserError(f"{origin} has a reasoning that is no string; give it as one")
    if _HALF_A_PAIR.search(f"{question_id}{text}{told}"):
        raise UserError(f"{origin} holds half a surrogate pair; repair its \\u escapes")
    finish = str(finish or "stop")
    return unjudged(question_id=str(question_id), text=text, finish_reason=finish, reasoning=told)

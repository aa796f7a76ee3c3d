"""The room's entrance: every kind of teacher is checked, estimated and asked from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caft.distill.accept import Rules
from caft.distill.endpoint import ask_endpoint, check_openai, check_paying, estimate_asking
from caft.distill.forecast import CostForecast, no_cost
from caft.distill.from_file import check_file, write_from_file
from caft.distill.inputs import DistillInputs, Generate
from caft.distill.local import check_local, fetch_local, write_locally
from caft.distill.worked import check_worked, write_worked
from caft.records import Question, Rationale
from caft.teachers.config import TeacherConfig
from caft.teachers.progress import Watcher
from caft.text.config import PromptConfig
from caft.text.prompts import Prompt, Wanted, write_prompt


def write_rationales(
    questions: Sequence[Question],
    *,
    prompt: PromptConfig,
    teacher: TeacherConfig,
    ledger_path: Path,
    forbidden: Sequence[str] = (),
    shots: Sequence[Question] = (),
    progress: Watcher | None = None,
    generate: Generate | None = None,
) -> list[Rationale]:
    """One Rationale a question and attempt, in order, refused ones with their reason.

    `forbidden` are the student's special tokens: no accepted text holds one. `generate` is the
    loaded model of a local_model teacher. `shots` are questions with worked solutions that the
    teacher is shown before each question; weak teachers do not end in [[...]] without. Raises
    UserError where the user must act.
    """
    rules = Rules(keep=teacher.keep, option_ids=prompt.option_ids, forbidden=tuple(forbidden))
    job = DistillInputs(
        questions=questions,
        prompt=prompt,
        rules=rules,
        ledger_path=ledger_path,
        shots=shots,
        progress=progress,
        generate=generate,
    )
    return _KINDS[teacher.kind].write(job, teacher)


def check_teacher(
    questions_have_rationales: bool, teacher: TeacherConfig, *, pays: bool = True
) -> None:
    """Refuse a teacher that cannot do its work, before any model loads: UserError.

    Who only wants to know what it would do, and `pays` nothing, needs no price, no key and no
    download.
    """
    kind = _KINDS[teacher.kind]
    kind.check(questions_have_rationales, teacher)
    if pays:
        kind.make_ready(teacher)


def forecast_rationales(
    questions: Sequence[Question],
    *,
    prompt: PromptConfig,
    teacher: TeacherConfig,
    ledger_path: Path,
    shots: Sequence[Question] = (),
) -> CostForecast:
    """What `write_rationales` would cost now; nothing is sent and nothing is written."""
    asked = [
        write_prompt(question, prompt, Wanted.rationale, chat=True, shots=shots)
        for question in questions
    ]
    return forecast_prompts(asked, teacher=teacher, ledger_path=ledger_path)


def forecast_prompts(
    prompts: Sequence[Prompt], *, teacher: TeacherConfig, ledger_path: Path
) -> CostForecast:
    """What any prompts to a teacher, or to a judge, would cost now."""
    return _KINDS[teacher.kind].estimate(prompts, teacher, ledger_path)


def _estimate_free(
    prompts: Sequence[Prompt], _teacher: TeacherConfig, _ledger_path: Path
) -> CostForecast:
    return no_cost(len(prompts))


def _is_ready(_teacher: TeacherConfig) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Kind:
    check: Callable[[bool, Any], None]
    write: Callable[[DistillInputs, Any], list[Rationale]]
    estimate: Callable[[Sequence[Prompt], Any, Path], CostForecast] = _estimate_free
    make_ready: Callable[[Any], object] = _is_ready


_KINDS = {
    "worked": _Kind(check_worked, write_worked),
    "file": _Kind(check_file, write_from_file),
    "openai": _Kind(check_openai, ask_endpoint, estimate_asking, check_paying),
    "local_model": _Kind(check_local, write_locally, make_ready=fetch_local),
}

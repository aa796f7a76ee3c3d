"""Checks, forecasts and asks every kind of teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caft.distill.accept import Rules
from caft.distill.endpoint import ask_endpoint, forecast_endpoint
from caft.distill.forecast import CostForecast
from caft.distill.inputs import DistillInputs, Generate, write_prompts
from caft.distill.local import check_local, write_locally
from caft.distill.written import check_file, check_worked, write_from_file, write_worked
from caft.records import Question, Rationale
from caft.teachers.api_key import check_address, check_endpoint
from caft.teachers.config import (
    EndpointConfig,
    FileTeacherConfig,
    LocalModelTeacherConfig,
    OpenAITeacherConfig,
    TeacherConfig,
)
from caft.teachers.prices import find_price, look_up_price
from caft.teachers.progress import Watcher
from caft.text.config import PromptConfig
from caft.text.prompts import Prompt


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
    teacher is shown before each question; without them, weak teachers do not end in [[...]]. Raises
    UserError if the user must act.
    """
    inputs = DistillInputs(
        questions=questions,
        prompt=prompt,
        rules=Rules(keep=teacher.keep, option_ids=prompt.option_ids, forbidden=tuple(forbidden)),
        ledger_path=ledger_path,
        shots=shots,
        progress=progress,
        generate=generate,
    )
    match teacher:
        case OpenAITeacherConfig():
            return ask_endpoint(inputs, teacher)
        case LocalModelTeacherConfig():
            return write_locally(inputs, teacher)
        case FileTeacherConfig():
            return write_from_file(inputs, teacher)
    return write_worked(inputs)


def check_teacher(
    questions_have_rationales: bool, teacher: TeacherConfig, *, pays: bool = True
) -> None:
    """UserError for a teacher that cannot do its work, before any model loads.

    Without `pays` it needs no price, no key and no download, which is enough for a dry run.
    """
    match teacher:
        case OpenAITeacherConfig():
            check_address(teacher)
            look_up_price(teacher)
            if pays:
                check_endpoint(teacher)
                find_price(teacher)
        case LocalModelTeacherConfig():
            check_local(teacher, fetch=pays)
        case FileTeacherConfig():
            check_file(teacher)
        case _:
            check_worked(questions_have_rationales)


def forecast_rationales(
    questions: Sequence[Question],
    *,
    prompt: PromptConfig,
    teacher: TeacherConfig,
    ledger_path: Path,
    shots: Sequence[Question] = (),
) -> CostForecast:
    """What `write_rationales` would cost now; nothing is sent and nothing is written."""
    prompts = write_prompts(questions, prompt, shots)
    return forecast_prompts(prompts, teacher=teacher, ledger_path=ledger_path)


def forecast_prompts(
    prompts: Sequence[Prompt], *, teacher: TeacherConfig | EndpointConfig, ledger_path: Path
) -> CostForecast:
    """What any prompts to a teacher, or to a judge, would cost now."""
    if isinstance(teacher, EndpointConfig):
        return forecast_endpoint(prompts, teacher, ledger_path)
    return CostForecast(questions=len(prompts))

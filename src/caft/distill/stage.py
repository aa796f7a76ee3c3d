"""Checks, forecasts and asks every kind of teacher."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from caft.distill.endpoint import ask_endpoint, find_open, forecast_endpoint
from caft.distill.forecast import CostForecast
from caft.distill.inputs import DistillInputs
from caft.distill.local import check_local, write_locally
from caft.distill.written import check_file, check_worked, write_from_file, write_worked
from caft.packed import pack
from caft.records import Rationale, Target
from caft.teachers.config import (
    EndpointConfig,
    FileTeacherConfig,
    LocalModelTeacherConfig,
    OpenAITeacherConfig,
    TeacherConfig,
    WorkedTeacherConfig,
)
from caft.teachers.ledger import Place
from caft.text.prompts import Prompt


def write_rationales(inputs: DistillInputs) -> Sequence[Rationale]:
    """One Rationale a question and attempt, in order, refused ones with their reason.

    Raises UserError where the user must act.
    """
    match inputs.teacher:
        case OpenAITeacherConfig() as teacher:
            return pack(ask_endpoint(inputs, teacher))
        case LocalModelTeacherConfig() as teacher:
            return pack(write_locally(inputs, teacher))
        case FileTeacherConfig() as teacher:
            return write_from_file(inputs, teacher)
    return write_worked(inputs)


def check_teacher(
    questions_have_rationales: bool,
    teacher: TeacherConfig,
    *,
    targets: Collection[Target] = (),
    fetch: bool = True,
) -> None:
    """UserError for a teacher that cannot write the `targets`, before any model loads.

    Without `fetch` nothing is downloaded. An endpoint is `check_paid`'s.
    """
    match teacher:
        case LocalModelTeacherConfig():
            check_local(teacher, fetch=fetch)
        case FileTeacherConfig():
            check_file(teacher, targets)
        case WorkedTeacherConfig():
            check_worked(questions_have_rationales, targets)


def forecast_rationales(
    requests: Sequence[DistillInputs], before: Sequence[CostForecast] = ()
) -> CostForecast:
    """What `write_rationales` would cost, for all `requests` to one teacher together.

    `before` are the stages that ask first. Nothing is sent and nothing is written.
    """
    if not requests:
        return CostForecast(questions=0)
    teacher, ledger = requests[0].teacher, requests[0].ledger_path
    sets = [inputs.prompts for inputs in requests]
    if isinstance(teacher, OpenAITeacherConfig):
        return forecast_endpoint(sets, teacher, ledger, find_open(requests, teacher), before)
    return forecast_prompts(sets, teacher=teacher, ledger_path=ledger)


def forecast_prompts(
    sets: Sequence[Sequence[Prompt]],
    *,
    teacher: TeacherConfig | EndpointConfig,
    ledger_path: Place,
    before: Sequence[CostForecast] = (),
) -> CostForecast:
    """What any prompts to a teacher, or to a judge, would cost; a set is asked together."""
    if isinstance(teacher, EndpointConfig):
        return forecast_endpoint(sets, teacher, ledger_path, before=before)
    count = sum(map(len, sets))
    if isinstance(teacher, LocalModelTeacherConfig):
        note = (
            f"written here, at most {teacher.max_tokens} tokens each, without what the ledger has"
        )
        return CostForecast(questions=count, asked=False, note=note)
    return CostForecast(questions=count, asked=False)

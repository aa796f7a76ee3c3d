"""`teacher=worked`: the dataset's own solutions. Pure."""

from __future__ import annotations

from caft.distill.accept import judge_reply
from caft.distill.inputs import DistillInputs, as_written, no_reply
from caft.errors import UserError
from caft.records import Question, Rationale
from caft.teachers.config import WorkedTeacherConfig
from caft.text.answers import gold_label
from caft.text.prompts import close_with_answer


def check_worked(questions_have_rationales: bool, _teacher: WorkedTeacherConfig) -> None:
    """UserError for a dataset without solutions."""
    if not questions_have_rationales:
        raise UserError(
            "teacher=worked needs worked solutions and the dataset has none; name their column "
            "(dataset.columns.rationale) or take a teacher that writes them: teacher=openai, "
            "openrouter, vllm, transformers_serve, llama_cpp, local_model or file"
        )


def write_worked(job: DistillInputs, _teacher: WorkedTeacherConfig) -> list[Rationale]:
    """Every question's solution, closed with its gold answer."""
    return [
        judge_reply(question, _take_worked(question, job), job.rules) for question in job.questions
    ]


def _take_worked(question: Question, job: DistillInputs) -> Rationale:
    solution = question.rationale
    if not solution or not solution.strip():
        return no_reply(question, "worked", "no_reply: the dataset has no solution for it")
    text = close_with_answer(solution, gold_label(question, job.prompt.option_ids))
    return as_written(question, text, "worked")

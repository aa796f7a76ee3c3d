"""How much surer the teacher is than the student, over training questions.

The teacher's entropies are those of a local model, by our own scoring, or a file's: `entropy_gain`.
Those over the options alone are from an endpoint's log-probabilities: `option_entropy_gain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caft.data.entropies import read_entropies
from caft.distill.local import check_local
from caft.errors import UserError
from caft.estimators import Need
from caft.pipeline.steps import list_steps, wanted_needs
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore
from caft.run_config import RunConfig
from caft.score.config import ModelScoreConfig
from caft.score.options import (
    OPTION_GAIN,
    refuse_shared_beginnings,
    refuse_without_alternatives,
)
from caft.store import StageKind
from caft.teachers.config import EndpointConfig, LocalModelTeacherConfig, OpenAITeacherConfig
from caft.teachers.replies import for_alternatives
from caft.text.prompts import Prompt, Wanted, write_prompt

_DIAL = "score.teacher_entropies"


def check_teacher_entropies(workspace: Workspace) -> None:
    """UserError, before any model loads, if `entropy_gain` is wanted and cannot be had."""
    config = workspace.config
    if Need.teacher_options in wanted_needs(config):
        for question in workspace.questions.train:
            refuse_shared_beginnings(question, config.dataset.prompt.option_ids)
    if Need.teacher not in wanted_needs(config):
        return
    if file_of(config):
        read_teacher_file(workspace)
    elif isinstance(config.teacher, LocalModelTeacherConfig):
        check_local(config.teacher, fetch=not config.dry_run)
    else:
        raise UserError(
            "the estimator entropy_gain needs the teacher's entropies over its whole vocabulary, "
            f"and teacher={config.teacher.kind} has none (an endpoint gives log-probabilities of "
            "the likeliest few tokens only); give teacher=local_model teacher.path=, a file as "
            f"{_DIAL}, or for an endpoint {OPTION_GAIN} in its place"
        )


def file_of(config: RunConfig) -> str | None:
    """The file with the teacher's entropies, if one is named."""
    return config.score.teacher_entropies if isinstance(config.score, ModelScoreConfig) else None


def read_teacher_file(workspace: Workspace) -> dict[str, float]:
    """The file's entropies by question id. UserError if a training question has none."""
    path = file_of(workspace.config)
    assert path is not None
    entropies, train = read_entropies(path, _DIAL), workspace.questions.train
    missing = [question.id for question in train if question.id not in entropies]
    if missing:
        raise UserError(
            f"{_DIAL}={path} has no entropy of {len(missing)} of the {len(train)} training "
            f"questions, such as {missing[0]!r}; give one of each, by the ids that a run's "
            "scores.parquet has"
        )
    return entropies


def find_option_teacher(config: RunConfig) -> EndpointConfig:
    """The teacher as it is asked for log-probabilities. UserError if it is no endpoint."""
    if isinstance(config.teacher, OpenAITeacherConfig):
        return for_alternatives(config.teacher)
    raise UserError(
        f"the estimator {OPTION_GAIN} needs an endpoint's log-probabilities, and teacher="
        f"{config.teacher.kind} is none; give teacher=openai or teacher=vllm, or use entropy_gain, "
        "which takes a local model or a file"
    )


def refuse_without_log_probabilities(workspace: Workspace) -> None:
    """UserError, after one call, if `option_entropy_gain` is wanted of an endpoint without them.

    Before a model is looked for. The ledger keeps the reply, so that the stage does not buy it
    again.
    """
    config = workspace.config
    if any(step.kind is StageKind.teacher_options for step in list_steps(config)):
        teacher = find_option_teacher(config)
        refuse_without_alternatives(option_prompts(workspace), teacher, workspace.store.ledger_path)


def option_prompts(workspace: Workspace) -> Iterator[Prompt]:
    """The answer prompt of every training question, as chat turns, with the student's shots."""
    prompt, questions = workspace.config.dataset.prompt, workspace.questions
    for question in questions.train:
        yield write_prompt(question, prompt, Wanted.answer, chat=True, shots=questions.shots)


def entropy_gains(
    scores: Sequence[AnswerScore], teacher: Mapping[str, float], *, of: str = "answer_entropy"
) -> dict[str, float]:
    """Student minus teacher, in nats, of the questions that the teacher has.

    Below 0 where the teacher is less sure: all of these as 0 would be one value, which a quantile
    cannot cut. `of` is the student's entropy that is compared.
    """
    return {
        score.question_id: (score.estimates[of] or 0.0) - teacher[score.question_id]
        for score in scores
        if score.question_id in teacher
    }

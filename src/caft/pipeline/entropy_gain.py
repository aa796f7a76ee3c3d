"""How much surer the teacher is than the student: `entropy_gain`, over training questions.

The teacher's entropies are those of a local model, by our own scoring, or a file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.data.entropies import read_entropies
from caft.distill.local import check_local
from caft.errors import UserError
from caft.estimators import Need
from caft.pipeline.steps import wanted_needs
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore
from caft.run_config import RunConfig
from caft.score.config import ModelScoreConfig
from caft.teachers.config import LocalModelTeacherConfig

_DIAL = "score.teacher_entropies"


def check_teacher_entropies(workspace: Workspace) -> None:
    """UserError, before any model loads, if `entropy_gain` is wanted and cannot be had."""
    config = workspace.config
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
            "the likeliest few tokens only); give teacher=local_model teacher.path=, or a file as "
            f"{_DIAL}"
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


def entropy_gains(scores: Sequence[AnswerScore], teacher: Mapping[str, float]) -> dict[str, float]:
    """Student minus teacher, in nats, not below 0, of the questions that the teacher has."""
    return {
        score.question_id: max(
            0.0, (score.estimates["answer_entropy"] or 0.0) - teacher[score.question_id]
        )
        for score in scores
        if score.question_id in teacher
    }

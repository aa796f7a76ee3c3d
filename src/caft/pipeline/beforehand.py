"""What a sweep's jobs would refuse by their data or their teacher, before the first one starts."""

from __future__ import annotations

import logging
from dataclasses import replace

from caft.data import NotHereError, QuestionSplits
from caft.pipeline.entropy_gain import find_option_teacher
from caft.pipeline.estimators import find_judge
from caft.pipeline.preflight import open_workspace
from caft.pipeline.steps import list_steps
from caft.run_config import RunConfig, RunContext
from caft.store import StageKind
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.prices import check_paid


def refuse_beforehand(
    config: RunConfig, context: RunContext, questions: QuestionSplits | None = None
) -> QuestionSplits | None:
    """UserError for what a run would refuse by its data or its teacher; fetches and warns nothing.

    Questions that are not on this machine are checked by the job that downloads them. Others are
    returned, and may be given for the next run of the same dataset: reading them takes longest.
    """
    logging.disable(logging.WARNING)  # each job gives its own
    try:
        questions = open_workspace(replace(config, dry_run=True), context, questions).questions
    except NotHereError:
        return None
    finally:
        logging.disable(logging.NOTSET)
    kinds = {step.kind for step in list_steps(config)}
    if StageKind.distill in kinds and isinstance(config.teacher, OpenAITeacherConfig):
        check_paid(config.teacher, pays=True)
    if StageKind.teacher_options in kinds:
        check_paid(find_option_teacher(config), pays=True)
    if StageKind.judge in kinds:
        check_paid(find_judge(config), pays=True)
    return questions

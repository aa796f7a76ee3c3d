"""The data check of all stages before the first one trains, not hours later. Loads no model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from caft.errors import count_of
from caft.models.student import Student
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import stage_tuning, tuned_replies, tuned_scoring
from caft.pipeline.steps import find_matched_budget, list_phases, steps_of, tunes
from caft.pipeline.workspace import Workspace
from caft.records import Example, Target
from caft.run_config import Until
from caft.split import SplitResult
from caft.text.prompts import Wanted
from caft.tune.check import check_prompts, find_bare_start, refuse_unmeasured
from caft.tune.examples import choose_asked, wanted_of
from caft.tune.stage import TrainingRows, TuneInputs, encode_rows, read_tuned, starting_student

log = logging.getLogger(__name__)
_NAMED = 5


def check_stages(
    workspace: Workspace,
    taught: Taught,
    checked: Mapping[int, TrainingRows],
    student: Student | None = None,
    numbers: range | None = None,
) -> dict[int, TrainingRows]:
    """The rows, as tokens, of every stage that must be trained; by its number, from 0.

    `numbers` are those of the stages that train `taught`, of which the first one starts from
    `student`; without, all stages of the method.

    UserError if a row could not be trained as it should be, is longer than allowed, or has
    another prompt than evaluation will send. Stages in the store were checked when they were made;
    those of `checked` are not checked again.
    """
    if numbers is None:
        numbers = range(len(workspace.config.method.stages))
    rows = _encode_stages(workspace, taught, numbers, checked, student)
    examples = [example for stage in rows.values() for example in stage.examples]
    tokenizer = workspace.student.tokenizer
    if find_bare_start(examples, tokenizer):
        log.warning(
            "the chat template begins without the BOS token (%r) that the tokenizer puts before "
            "other texts; some models are made that way, but check that this one is",
            tokenizer.bos_token,
        )
    return rows


def check_before_teaching(workspace: Workspace, split: SplitResult) -> dict[int, TrainingRows]:
    """The same check, before a teacher is paid, for the stages before the first with any text.

    Stages with other classes than this split's are checked when these are known.

    Empty if nothing must be paid, or if a matched budget moves questions to other classes while the
    teacher is asked.
    """
    config = workspace.config
    pays = steps_of(config, Until.distill)
    if not tunes(config) or not pays or find_matched_budget(config):
        return {}
    taught = (
        number
        for number in list_phases(config.method)[0]
        if any(t.reasons for own in config.method.stages[number].shares.values() for t in own)
    )
    return _encode_stages(workspace, Taught(split=split), range(next(taught)), {})


def _encode_stages(
    workspace: Workspace,
    taught: Taught,
    numbers: range,
    checked: Mapping[int, TrainingRows],
    student: Student | None = None,
) -> dict[int, TrainingRows]:
    student = student or starting_student(workspace.student, workspace.config.tuning)
    rows = dict(checked)
    for number in numbers:
        work = stage_tuning(workspace, taught, student, number)
        # After a stage that must still be trained, nothing can be in the store.
        artifact = None if rows else workspace.store.find(work)
        if artifact:
            student = read_tuned(student, artifact)
        elif number not in rows:
            # A stage of both targets may have no validation question that is answered at once.
            refuse_unmeasured(work.validation.questions, work.prompt, work.config, number + 1)
            rows[number] = encode_rows(work)
            _warn_of_dropped(rows[number], number)
            _tell_validation(work, number)
            _refuse_other_prompts(workspace, work, rows[number].examples)
    return rows


def _warn_of_dropped(rows: TrainingRows, number: int) -> None:
    if rows.dropped:
        log.warning(
            "tuning, stage %d: %s too long and left out: %s%s",
            number + 1,
            count_of(len(rows.dropped), "row"),
            ", ".join(rows.dropped[:_NAMED]),
            ", ... (summary.json names all)" if len(rows.dropped) > _NAMED else "",
        )


def _tell_validation(work: TuneInputs, number: int) -> None:
    """Why a stage's validation accuracy is of fewer questions than the data has."""
    if not work.config.validate:
        return
    questions = work.validation.questions
    asked = choose_asked(questions, work.prompt, work.config)
    if len(asked) < len(questions):
        log.info(
            "tuning, stage %d: after an epoch %d of %s are asked, since written replies take long "
            "(tuning.validation_replies=%d)",
            number + 1,
            len(asked),
            count_of(len(questions), "validation question"),
            work.config.validation_replies,
        )


def _refuse_other_prompts(
    workspace: Workspace, tuning: TuneInputs, examples: Sequence[Example]
) -> None:
    """UserError if a row's prompt differs from what evaluation would send for its question."""
    questions = {pair.question.id: pair.question for pair in tuning.pairs}
    # The base model replaces the tuned one here: the tokenizer is the same.
    student = workspace.student
    for target in Target:
        rows = [row for row in examples if row.target is target]
        asked = [questions[row.question_id] for row in rows]
        wanted = wanted_of(target, tuning.config.answer_target)
        if wanted is Wanted.answer:
            scoring = replace(tuned_scoring(workspace, student), questions=asked)
            prompts = [row.prompt_ids for row in scoring.rows]
        else:
            replies = replace(tuned_replies(workspace, student, wanted), questions=asked)
            thinking = target is Target.thinking
            prompts = [ids for _, ids in replies.encode(wanted, thinking=thinking)]
        check_prompts(rows, prompts)

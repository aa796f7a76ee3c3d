"""The data check of all stages before the first one trains, not hours later. Loads no model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from caft.evaluate.stage import encode_prompts
from caft.pipeline.findings import Findings
from caft.pipeline.story import tuned_scoring, tuning_of, writing_of
from caft.records import Example, Question, Target
from caft.score.stage import encode_questions
from caft.text.prompts import Wanted
from caft.tune.check import check_prompts, find_bare_start, refuse_unmeasured
from caft.tune.examples import wanted_of
from caft.tune.stage import (
    TrainingRows,
    encode_rows,
    find_tuning,
    read_tuned,
    starting_student,
)

if TYPE_CHECKING:
    from caft.pipeline.story import Workplace

log = logging.getLogger(__name__)
_NAMED = 5


def check_stages(place: Workplace, findings: Findings) -> None:
    """Put the rows of every stage that must be trained into `findings.rows`, as tokens.

    UserError where a row could not be trained as it should be, is longer than allowed, or has
    another prompt than evaluation will send. Stages in the store were checked when they were made.
    """
    _encode_stages(place, findings, len(place.config.method.stages))
    examples = [row for rows in findings.rows.values() for row in rows.examples]
    _warn_of_bare_start(examples, place.student.tokenizer)


def check_answer_stages(place: Workplace, findings: Findings) -> None:
    """The same before a teacher is paid, for the stages before the first one with rationales."""
    stages = place.config.method.stages
    taught = (n for n, to in enumerate(stages) if Target.rationale in to.targets.values())
    _encode_stages(place, findings, next(taught, len(stages)))


def _encode_stages(place: Workplace, findings: Findings, count: int) -> None:
    student = starting_student(place.student, place.config.tuning)
    for number in range(count):
        work = tuning_of(place, findings, student, number)
        # Behind a stage that is still to be trained, nothing can be in the store.
        artifact = None if findings.rows else find_tuning(work, place.store)
        if artifact:
            student = read_tuned(student, artifact)
        elif number not in findings.rows:
            # A stage of both targets may have no validation question that is answered at once.
            refuse_unmeasured(work.validation.questions, work.prompt, work.config, number + 1)
            rows = encode_rows(work)
            _tell_dropped(rows, number)
            questions = {lesson.question.id: lesson.question for lesson in work.lessons}
            _refuse_other_prompts(place, rows.examples, questions)
            findings.rows[number] = rows


def _tell_dropped(rows: TrainingRows, number: int) -> None:
    if rows.dropped:
        log.warning(
            "tuning, stage %d: %d rows are too long and left out: %s%s",
            number + 1,
            len(rows.dropped),
            ", ".join(rows.dropped[:_NAMED]),
            ", ... (summary.json names all)" if len(rows.dropped) > _NAMED else "",
        )


def _refuse_other_prompts(
    place: Workplace, examples: Sequence[Example], questions: Mapping[str, Question]
) -> None:
    """UserError where a row's prompt is not what evaluation would send for its question."""
    for target in Target:
        rows = [row for row in examples if row.target is target]
        asked = [questions[row.question_id] for row in rows]
        check_prompts(rows, _prompts_of_evaluation(place, target, asked))


def _prompts_of_evaluation(
    place: Workplace, target: Target, questions: Sequence[Question]
) -> list[tuple[int, ...]]:
    # As if it were tuned already: what evaluation sends depends on that.
    tuned = place.student.after_tuning(place.student.folder, "to be tuned")
    wanted = wanted_of(target, place.config.tuning.answer_target)
    if wanted is not Wanted.answer:
        work = replace(writing_of(place, tuned, wanted), questions=questions)
        return [ids for _, ids in encode_prompts(work)]
    scoring = replace(tuned_scoring(place, tuned), questions=questions)
    return [row.prompt_ids for row in encode_questions(scoring)]


def _warn_of_bare_start(examples: Sequence[Example], tokenizer: Any) -> None:
    if find_bare_start(examples, tokenizer):
        log.warning(
            "the chat template begins without the BOS token (%r) that the tokenizer puts before "
            "other texts; some models are made that way, but see that this one is",
            tokenizer.bos_token,
        )

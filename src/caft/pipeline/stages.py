"""The stages of a run, in order: score, split, distill, tune, evaluate."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from caft.data import published_scores
from caft.errors import UserError
from caft.evaluate.predictions import read_single_token, route
from caft.evaluate.stage import ReplyInputs, read_predictions, write_predictions
from caft.pipeline.data_check import check_before_teaching, check_stages
from caft.pipeline.estimators import gather_estimates
from caft.pipeline.matched_budget import find_matched_budget
from caft.pipeline.results import (
    Evaluated,
    ModeReplies,
    RunResults,
    Scored,
    StageKind,
    StageRecord,
    Taught,
    Tuned,
    record_stage,
)
from caft.pipeline.routing import route_base_model, route_tuned_model
from caft.pipeline.stage_inputs import (
    base_rationales,
    base_scoring,
    questions_for_teacher,
    stage_tuning,
    tuned_replies,
    tuned_scoring,
)
from caft.pipeline.teaching import buy_matched, buy_rationales
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Mode, Prediction
from caft.run_config import Until
from caft.score.config import PublishedScoreConfig
from caft.score.stage import read_scores, score_questions
from caft.split import SplitResult, split_questions
from caft.text.prompts import Wanted
from caft.trainers.tracker import RunLogger
from caft.tune.config import AnswerTarget
from caft.tune.stage import (
    TrainingRows,
    log_row,
    read_numbers,
    read_tuned,
    starting_student,
    tune_student,
)

log = logging.getLogger(__name__)


def run_stages(workspace: Workspace, tracker: RunLogger) -> RunResults:
    """Run the stages up to `until`."""
    until = workspace.config.until
    scored = score(workspace)
    if until is Until.score:
        return RunResults(scored=scored)
    split = split_scored(workspace, scored)
    if until is Until.split:
        return RunResults(scored=scored, split=split)
    refuse_empty_classes(workspace, split)
    checked = check_before_teaching(workspace, scored, split)
    taught = teach(workspace, scored, split)
    if until is Until.distill:
        return RunResults(scored=scored, split=split, taught=taught)
    tuned = None
    if workspace.config.method.stages:
        # A row that cannot be trained is found out before the first stage is, not hours later.
        rows = check_stages(workspace, taught, checked)
        tuned = tune(workspace, taught, rows, tracker)
    if until is Until.tune:
        return RunResults(scored=scored, split=split, taught=taught, tuned=tuned)
    evaluated = evaluate(workspace, scored, taught.split, tuned)
    return RunResults(scored=scored, split=split, taught=taught, tuned=tuned, evaluated=evaluated)


def score(workspace: Workspace) -> Scored:
    """Let the base model answer every question with one token; gather what estimators need."""
    if isinstance(workspace.config.score, PublishedScoreConfig):
        return Scored(scores=read_published(workspace, workspace.config.score))
    artifact = score_questions(base_scoring(workspace), workspace.store, workspace.config.trainer)
    _log_reuse("scores", artifact.cached)
    scored = Scored(
        scores=read_scores(artifact), stages=(record_stage(StageKind.score, "score", artifact),)
    )
    return gather_estimates(workspace, scored)


def read_published(workspace: Workspace, config: PublishedScoreConfig) -> list[AnswerScore]:
    """Scores from columns of the dataset's own file, for every question."""
    dataset = workspace.config.dataset
    published = published_scores(dataset, config.entropy_column, config.correct_column)
    return [
        AnswerScore(
            question_id=question.id,
            predicted="",
            valid=True,
            correct=published[question.id][1],
            estimates={"answer_entropy": published[question.id][0]},
        )
        for question in workspace.every_question
    ]


def split_scored(workspace: Workspace, scored: Scored) -> SplitResult:
    """Sort questions into easy, middle and hard, cut on training rows only."""
    questions, config = workspace.questions, workspace.config
    held_out = [scored.of(questions.validation), scored.of(questions.test)]
    return split_questions(scored.of(questions.train), held_out, config.split, config.seed)


def teach(workspace: Workspace, scored: Scored, split: SplitResult) -> Taught:
    """Ask the teacher about the questions that the method wants rationales for, and no others."""
    asked = questions_for_teacher(workspace, split)
    budget = find_matched_budget(workspace.config)
    if asked and budget:
        return buy_matched(workspace, scored, split, budget)
    # An estimator may have had every rationale bought already.
    if not asked or scored.rationales:
        return Taught(split=split, rationales=scored.rationales)
    rationales, record = buy_rationales(workspace, asked)
    return Taught(split=split, rationales=rationales, stages=(record,))


def refuse_empty_classes(workspace: Workspace, split: SplitResult) -> None:
    """UserError where a stage names a class without questions, before a teacher is paid."""
    placed, method = split.complexity_of, workspace.config.method
    present = {placed[question.id] for question in workspace.questions.train}
    for stage in method.stages:
        for name in stage.targets:
            if name not in present:
                raise UserError(
                    f"the method {method.name} trains the class {name}, but no "
                    "training question is in it; move the split's cut points"
                )


def tune(
    workspace: Workspace, taught: Taught, rows: Mapping[int, TrainingRows], tracker: RunLogger
) -> Tuned:
    """The method's stages in order, each from where the last one ended.

    `rows` are the tokens of stages by number, where they have been encoded already.
    """
    config = workspace.config
    student = starting_student(workspace.student, config.tuning)
    made, numbers, records = [], [], []
    for number in range(len(config.method.stages)):
        title = f"tuning, stage {number + 1} of {len(config.method.stages)}"
        logger = tracker.for_stage(number + 1)
        work = stage_tuning(workspace, taught, student, number)
        artifact = tune_student(
            work, workspace.store, config.trainer, logger, title, rows=rows.get(number)
        )
        made.append(artifact)
        records.append(record_stage(StageKind.tune, f"tune {number + 1}", artifact))
        numbers.append(read_numbers(artifact))
        if artifact.cached:
            for row in numbers[-1].curve:
                log_row(logger, row)
        _log_reuse(title, artifact.cached)
        student = read_tuned(student, artifact)
    return Tuned(student=student, weights=made[-1], numbers=tuple(numbers), stages=tuple(records))


def evaluate(
    workspace: Workspace, scored: Scored, split: SplitResult, tuned: Tuned | None
) -> Evaluated:
    """Base and tuned model in every mode, on validation and test questions."""
    base, base_records = _evaluate_base(workspace, scored, split)
    if tuned is None:
        return Evaluated(base=base, tuned=None, stages=tuple(base_records))
    replies, tuned_records = _evaluate_tuned(workspace, scored, split, tuned)
    return Evaluated(base=base, tuned=replies, stages=(*base_records, *tuned_records))


def _evaluate_base(
    workspace: Workspace, scored: Scored, split: SplitResult
) -> tuple[ModeReplies, list[StageRecord]]:
    modes, records = workspace.config.evaluation.modes, []
    replies: dict[Mode, list[Prediction]] = {}
    if Mode.answer in modes:
        # The base model's scores are its answers: the same prompt, the same pass.
        replies[Mode.answer] = [read_single_token(row) for row in scored.of(workspace.held_out)]
    if Mode.rationale in modes:
        work = base_rationales(workspace)
        replies[Mode.rationale], record = _written(workspace, work, "base rationale")
        records.append(record)
    if Mode.routed in modes:
        routing = route_base_model(
            workspace.config.split, split, scored, [row.id for row in workspace.held_out]
        )
        replies[Mode.routed] = route(replies[Mode.answer], replies[Mode.rationale], routing)
    return _divide(workspace, replies), records


def _evaluate_tuned(
    workspace: Workspace, scored: Scored, split: SplitResult, tuned: Tuned
) -> tuple[ModeReplies, list[StageRecord]]:
    modes, records = workspace.config.evaluation.modes, []
    replies: dict[Mode, list[Prediction]] = {}
    if Mode.answer in modes:
        replies[Mode.answer], record = _tuned_answers(workspace, tuned)
        records.append(record)
    if Mode.rationale in modes:
        work = tuned_replies(workspace, tuned.student, Wanted.rationale)
        replies[Mode.rationale], record = _written(workspace, work, "tuned rationale")
        records.append(record)
    if Mode.routed in modes:
        routing = route_tuned_model(
            workspace.config.split,
            workspace.config.evaluation.routed_by,
            split,
            scored,
            workspace.questions,
            replies[Mode.answer],
        )
        replies[Mode.routed] = route(replies[Mode.answer], replies[Mode.rationale], routing)
    return _divide(workspace, replies), records


def _tuned_answers(workspace: Workspace, tuned: Tuned) -> tuple[list[Prediction], StageRecord]:
    if workspace.config.tuning.answer_target is AnswerTarget.bracketed:
        work = tuned_replies(workspace, tuned.student, Wanted.bracketed)
        return _written(workspace, work, "tuned answer")
    scoring = tuned_scoring(workspace, tuned.student)
    artifact = score_questions(scoring, workspace.store, workspace.config.trainer)
    answers = [read_single_token(row) for row in read_scores(artifact)]
    return answers, record_stage(StageKind.evaluate, "evaluate tuned answer", artifact)


def _written(
    workspace: Workspace, work: ReplyInputs, title: str
) -> tuple[list[Prediction], StageRecord]:
    artifact = write_predictions(work, workspace.store, workspace.config.trainer, title)
    _log_reuse(title, artifact.cached)
    return read_predictions(artifact), record_stage(
        StageKind.evaluate, f"evaluate {title}", artifact
    )


def _divide(workspace: Workspace, replies: Mapping[Mode, list[Prediction]]) -> ModeReplies:
    border = len(workspace.questions.validation)
    return ModeReplies(
        validation={mode: rows[:border] for mode, rows in replies.items()},
        test={mode: rows[border:] for mode, rows in replies.items()},
    )


def _log_reuse(what: str, cached: bool) -> None:
    if cached:
        log.info("%s: taken from the store", what)

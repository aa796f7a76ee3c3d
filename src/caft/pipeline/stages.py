"""The stages of a run, in order: score, split, distill, tune, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from caft.data import published_scores
from caft.evaluate.config import RoutedBy
from caft.evaluate.predictions import read_single_token, route
from caft.pipeline.data_check import check_before_teaching, check_stages
from caft.pipeline.engine_gate import pass_gate, refuse_untrained, tell_how_to_serve
from caft.pipeline.estimators import gather_estimates
from caft.pipeline.own_rationales import sample_own
from caft.pipeline.results import (
    Evaluated,
    ModeReplies,
    RunResults,
    Scored,
    Taught,
    Tuned,
    obtain,
    record_stage,
)
from caft.pipeline.routing import (
    place_by_classes,
    place_by_validation,
    route_base_model,
    route_by_own_estimates,
    route_tuned_model,
)
from caft.pipeline.stage_inputs import (
    evaluation,
    questions_for_teacher,
    refuse_small_classes,
    stage_tuning,
)
from caft.pipeline.steps import Step, asked_targets, find_matched_budget, steps_of
from caft.pipeline.teaching import buy_matched, buy_rationales
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Mode, Prediction, Rationale, Target
from caft.run_config import Until
from caft.score.config import PublishedScoreConfig
from caft.split import SplitResult, split_questions
from caft.store import StageKind
from caft.trainers.tracker import RunLogger
from caft.tune.stage import TrainingRows, log_row, read_tuned, starting_student

_ASKS = StageKind.distill


def run_stages(workspace: Workspace, tracker: RunLogger) -> RunResults:
    """Run the stages up to `until`."""
    until = workspace.config.until
    scored = score(workspace)
    if until is Until.score:
        return RunResults(scored=scored)
    split = split_scored(workspace, scored)
    if until is Until.split:
        return RunResults(scored=scored, split=split)
    refuse_small_classes(workspace, split)
    checked = check_before_teaching(workspace, split)
    taught = teach(workspace, scored, split)
    if until is Until.distill:
        return RunResults(scored=scored, split=split, taught=taught)
    tuned = None
    if workspace.config.method.stages:
        # A row that cannot be trained is reported before the first stage, not hours later.
        rows = check_stages(workspace, taught, checked)
        if rows:
            refuse_untrained(workspace)
        tuned = tune(workspace, taught, rows, tracker)
    if until is Until.tune:
        if tuned:
            tell_how_to_serve(workspace, tuned)
        return RunResults(scored=scored, split=split, taught=taught, tuned=tuned)
    evaluated = evaluate(workspace, scored, taught.split, tuned)
    return RunResults(scored=scored, split=split, taught=taught, tuned=tuned, evaluated=evaluated)


def score(workspace: Workspace) -> Scored:
    """The base model's answers and estimates, or published ones of another model."""
    if isinstance(workspace.config.score, PublishedScoreConfig):
        return Scored(scores=read_published(workspace, workspace.config.score))
    return gather_estimates(workspace)


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
    """Sort questions into easy, middle and hard; cut points come from training rows only."""
    questions, config = workspace.questions, workspace.config
    held_out = [scored.of(questions.validation), scored.of(questions.test)]
    train, subjects = scored.of(questions.train), workspace.subject_of
    return split_questions(train, held_out, config.split, config.seed, subjects)


def teach(workspace: Workspace, scored: Scored, split: SplitResult) -> Taught:
    """The texts that the method needs, and no others: the student's own, and a teacher's."""
    steps = [each for each in steps_of(workspace.config, Until.distill) if each.kind is _ASKS]
    if budget := find_matched_budget(workspace.config):
        return sample_own(workspace, buy_matched(workspace, scored, split, budget, steps[0]))
    # Nothing is bought if a class gets no rationale of the student's own.
    taught = sample_own(workspace, Taught(split=split, rationales=scored.rationales))
    return _ask_teacher(workspace, taught, steps[0]) if steps else taught


def _ask_teacher(workspace: Workspace, taught: Taught, step: Step) -> Taught:
    asked = questions_for_teacher(workspace, taught.split, asked_targets(workspace.config))
    rationales, record = buy_rationales(workspace, asked, step)
    # What an estimator has bought stays, but for replies that another target's rules judged again.
    again = {_name_reply(row) for row in rationales if row.target is not Target.short_rationale}
    others = [row for row in taught.rationales if _name_reply(row) not in again]
    return replace(taught, rationales=[*others, *rationales], stages=(*taught.stages, record))


def _name_reply(row: Rationale) -> str:
    return row.ledger_key or row.question_id


def tune(
    workspace: Workspace, taught: Taught, rows: Mapping[int, TrainingRows], tracker: RunLogger
) -> Tuned:
    """Train the method's stages in order, each from the weights of the one before.

    `rows` are the tokens of stages that are already encoded, by number.
    """
    student = starting_student(workspace.student, workspace.config.tuning)
    made, numbers, records = [], [], []
    for step in steps_of(workspace.config, Until.tune):
        record = partial(log_row, tracker, step.number + 1)
        work = stage_tuning(workspace, taught, student, step.number)
        work = replace(work, record=record, rows=rows.get(step.number))
        trained, artifact = obtain(workspace.store, step, work)
        if artifact.cached:
            for row in trained.curve:
                record(row)
        made.append(artifact)
        numbers.append(trained)
        records.append(record_stage(step, artifact))
        student = read_tuned(student, artifact)
    return Tuned(student=student, weights=made[-1], numbers=tuple(numbers), stages=tuple(records))


def evaluate(
    workspace: Workspace, scored: Scored, split: SplitResult, tuned: Tuned | None
) -> Evaluated:
    """Evaluate base and tuned model in every mode, on validation and test questions."""
    config, records = workspace.config, []
    replies: dict[str, dict[Mode, list[Prediction]]] = {"base": {}}
    if tuned:
        replies["tuned"] = {}
    if Mode.answer in config.evaluation.modes:
        # The base model's scores are its answers: the same prompt, the same pass.
        answers = [read_single_token(row) for row in scored.of(workspace.held_out)]
        replies["base"][Mode.answer] = answers
    for step in steps_of(config, Until.evaluate):
        student = tuned.student if tuned and step.tuned else workspace.student
        if step.kind is StageKind.gate:
            records.append(pass_gate(workspace, step, student))
            continue
        work = evaluation(workspace, step, student)
        rows, artifact = obtain(workspace.store, step, work)
        replies["tuned" if step.tuned else "base"][step.mode] = [
            read_single_token(row) if isinstance(row, AnswerScore) else row for row in rows
        ]
        records.append(record_stage(step, artifact))
        workspace.close_engines()
    if Mode.routed in config.evaluation.modes:
        _route(workspace, scored, split, replies)
    by_model = {name: _divide(workspace, by_mode) for name, by_mode in replies.items()}
    return Evaluated(by_model=by_model, stages=tuple(records))


def _route(
    workspace: Workspace,
    scored: Scored,
    split: SplitResult,
    replies: Mapping[str, dict[Mode, list[Prediction]]],
) -> None:
    config, questions = workspace.config, workspace.questions
    by = config.evaluation.routed_by
    for name, by_mode in replies.items():
        answers, rationales = by_mode[Mode.answer], by_mode[Mode.rationale]
        ids = [row.question_id for row in answers]
        if by is RoutedBy.tuned and name == "tuned" and hasattr(config.split, "estimator"):
            routing = route_by_own_estimates(config.split, split, questions, answers)
        else:
            if by is RoutedBy.validation and questions.validation:
                placed = place_by_validation(config.split, scored, questions, answers, rationales)
            else:
                placed = place_by_classes(config.split, split, ids)
            price = route_base_model if name == "base" else route_tuned_model
            routing = price(placed, scored, ids)
        by_mode[Mode.routed] = route(answers, rationales, routing)


def _divide(workspace: Workspace, replies: Mapping[Mode, list[Prediction]]) -> ModeReplies:
    border = len(workspace.questions.validation)
    return ModeReplies(
        validation={mode: rows[:border] for mode, rows in replies.items()},
        test={mode: rows[border:] for mode, rows in replies.items()},
    )

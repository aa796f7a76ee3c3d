"""The stages of a run, in order: score, split, distill, tune, evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from caft.evaluate.config import RoutedBy
from caft.evaluate.predictions import read_single_token, route
from caft.models.student import Student
from caft.packed import join, pack, values_of
from caft.pipeline.data_check import check_before_teaching, check_stages
from caft.pipeline.engine_gate import pass_gate, refuse_untrained, tell_how_to_serve
from caft.pipeline.estimators import gather_estimates
from caft.pipeline.own_rationales import sample_own
from caft.pipeline.rescoring import (
    join_taught,
    name_reply,
    rescoring,
    split_rescored,
    tell_classes,
)
from caft.pipeline.results import (
    Evaluated,
    FittedCut,
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
    route_tuned_model,
    tell_cut,
)
from caft.pipeline.stage_inputs import (
    evaluation,
    questions_for_teacher,
    refuse_small_classes,
    stage_tuning,
)
from caft.pipeline.steps import (
    Step,
    asked_targets,
    find_matched_budget,
    list_phases,
    steps_of,
)
from caft.pipeline.teaching import buy_matched, buy_rationales
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Mode, Prediction, Rationale
from caft.run_config import Until
from caft.score.config import PublishedScoreConfig
from caft.split import SplitResult, split_questions
from caft.store import Stage, StageKind
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
    refuse_small_classes(workspace, split, list_phases(workspace.config.method)[0])
    checked = check_before_teaching(workspace, split)
    taught = teach(workspace, scored, split)
    if until is Until.distill:
        return RunResults(scored=scored, split=split, taught=taught)
    tuned = None
    if workspace.config.method.stages:
        taught, tuned = tune(workspace, scored, taught, checked, tracker)
    if until is Until.tune:
        if tuned:
            tell_how_to_serve(workspace, tuned)
        return RunResults(scored=scored, split=split, taught=taught, tuned=tuned)
    evaluated = evaluate(workspace, scored, taught.split, tuned)
    return RunResults(scored=scored, split=split, taught=taught, tuned=tuned, evaluated=evaluated)


def score(workspace: Workspace) -> Scored:
    """The base model's answers and estimates, or published ones of another model."""
    if isinstance(workspace.config.score, PublishedScoreConfig):
        return Scored(scores=workspace.published)
    return gather_estimates(workspace)


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
        taught = buy_matched(workspace, scored, split, budget, steps[0])
        rationales = _with_bought(scored.rationales, taught.rationales)
        return sample_own(workspace, replace(taught, rationales=rationales))
    # Nothing is bought if a class gets no rationale of the student's own.
    taught = sample_own(workspace, Taught(split=split, rationales=scored.rationales))
    first = list_phases(workspace.config.method)[0]
    return _ask_teacher(workspace, taught, steps[0], first) if steps else taught


def _ask_teacher(workspace: Workspace, taught: Taught, step: Step, phase: range) -> Taught:
    targets = asked_targets(workspace.config, phase)
    asked = questions_for_teacher(workspace, taught.split, targets, phase)
    rationales, record = buy_rationales(workspace, asked, step)
    rationales = _with_bought(taught.rationales, rationales)
    return replace(taught, rationales=rationales, stages=(*taught.stages, record))


def _with_bought(
    before: Sequence[Rationale], rationales: Sequence[Rationale]
) -> Sequence[Rationale]:
    """What an estimator has bought stays, but for replies that were judged again."""
    again = set(map(name_reply, rationales)) if before else set()
    return join(pack(row for row in before if name_reply(row) not in again), rationales)


def tune(
    workspace: Workspace,
    scored: Scored,
    taught: Taught,
    checked: Mapping[int, TrainingRows],
    tracker: RunLogger,
) -> tuple[Taught, Tuned]:
    """Train the method's stages in order, each from the weights of the one before.

    `checked` are the tokens of stages that are already encoded, by number. Returned are also all
    texts that were asked for, with the split that the first stages have.
    """
    first, every, parts = taught.split, taught, []
    student = starting_student(workspace.student, workspace.config.tuning)
    for phase in list_phases(workspace.config.method):
        if phase.start:
            taught = _teach_again(workspace, scored, student, phase)
            tell_classes(workspace, phase.start, first, taught.split)
            every, checked = join_taught(every, taught), {}
        # A row that cannot be trained is reported before the first stage, not hours later.
        rows = check_stages(workspace, taught, checked, student, phase)
        if rows:
            refuse_untrained(workspace)
        part = _tune_phase(workspace, taught, rows, tracker, student, phase)
        parts.append(part)
        student = part.student
    tuned = replace(
        parts[-1],
        numbers=tuple(each for part in parts for each in part.numbers),
        stages=tuple(record for part in parts for record in part.stages),
        rescored={number: split for part in parts for number, split in part.rescored.items()},
    )
    return every, tuned


def _teach_again(workspace: Workspace, scored: Scored, student: Student, phase: range) -> Taught:
    """The classes by `student`, and the texts that the stages of `phase` train then."""
    steps = {s.kind: s for s in steps_of(workspace.config, Until.tune) if s.number == phase.start}
    work = rescoring(workspace, student)
    scores, artifact = obtain(workspace.store, steps[StageKind.score], work)
    split = split_rescored(workspace, scores, phase.start)
    refuse_small_classes(workspace, split, phase)
    record = record_stage(steps[StageKind.score], artifact)
    taught = Taught(split=split, rationales=scored.rationales, stages=(record,))
    asks = steps.get(_ASKS)
    return _ask_teacher(workspace, taught, asks, phase) if asks else taught


def _tune_phase(  # noqa: PLR0917
    workspace: Workspace,
    taught: Taught,
    rows: Mapping[int, TrainingRows],
    tracker: RunLogger,
    student: Student,
    phase: range,
) -> Tuned:
    made, numbers = [], []
    records = list(taught.stages) if phase.start else []
    steps = [s for s in steps_of(workspace.config, Until.tune) if s.kind is StageKind.tune]
    for step in (steps[number] for number in phase):
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
    return Tuned(
        student=student,
        weights=made[-1],
        numbers=tuple(numbers),
        stages=tuple(records),
        rescored={phase.start: taught.split} if phase.start else {},
    )


def evaluate(
    workspace: Workspace, scored: Scored, split: SplitResult, tuned: Tuned | None
) -> Evaluated:
    """Evaluate base and tuned model in every mode, on validation and test questions."""
    config, records = workspace.config, []
    also: dict[str, dict[tuple[str, Mode], Sequence[Prediction]]] = {
        each.name: {} for each in workspace.further
    }
    replies: dict[str, dict[Mode, Sequence[Prediction]]] = {"base": {}}
    if tuned:
        replies["tuned"] = {}
    if Mode.answer in config.evaluation.modes:
        # The base model's scores are its answers: the same prompt, the same pass.
        answers = pack(map(read_single_token, scored.of(workspace.held_out)))
        replies["base"][Mode.answer] = answers
    before = None
    for step in steps_of(config, Until.evaluate):
        if before is not None and step.tuned != before.tuned:
            workspace.close_engines()
        before = step
        student = tuned.student if tuned and step.tuned else workspace.student
        if step.kind is StageKind.gate:
            records.append(pass_gate(workspace, step, student))
            continue
        work: Stage[Sequence[AnswerScore | Prediction]] = evaluation(workspace, step, student)
        rows, artifact = obtain(workspace.store, step, work)
        read = pack(read_single_token(row) if isinstance(row, AnswerScore) else row for row in rows)
        who = "tuned" if step.tuned else "base"
        if step.also:
            also[step.also][who, step.mode] = read
        else:
            replies[who][step.mode] = read
        records.append(record_stage(step, artifact))
    workspace.close_engines()
    routed_at = {}
    if Mode.routed in config.evaluation.modes:
        routed_at = _route(workspace, scored, split, replies)
    by_model = {name: _divide(workspace, by_mode) for name, by_mode in replies.items()}
    return Evaluated(by_model=by_model, also=also, routed_at=routed_at, stages=tuple(records))


def _route(
    workspace: Workspace,
    scored: Scored,
    split: SplitResult,
    replies: Mapping[str, dict[Mode, Sequence[Prediction]]],
) -> dict[str, FittedCut]:
    """Add the routed replies; where validation questions fitted the cut, return it by model."""
    fitted = {}
    config, questions = workspace.config, workspace.questions
    by = config.evaluation.routed_by
    for name, by_mode in replies.items():
        answers, rationales = by_mode[Mode.answer], by_mode[Mode.rationale]
        ids = [*values_of(answers, "question_id")]
        if by is RoutedBy.validation:
            placed = place_by_validation(
                config.split, scored, questions, answers, rationales, tuned=name == "tuned"
            )
        else:
            placed = place_by_classes(config.split, split, ids)
        if cut := tell_cut(placed, questions.test):
            fitted[name] = cut
        price = route_base_model if name == "base" else route_tuned_model
        routing = price(placed, scored, ids)
        by_mode[Mode.routed] = pack(route(answers, rationales, routing))
    return fitted


def _divide(workspace: Workspace, replies: Mapping[Mode, Sequence[Prediction]]) -> ModeReplies:
    border = len(workspace.questions.validation)
    return ModeReplies(
        validation={mode: rows[:border] for mode, rows in replies.items()},
        test={mode: rows[border:] for mode, rows in replies.items()},
    )

"""Everything that is checked before a model loads: hours later would be too late."""

from __future__ import annotations

from caft.data import load_questions
from caft.distill import check_teacher
from caft.estimators import Need
from caft.evaluate.stage import encode_prompts, find_predictions
from caft.pipeline.estimators import check_estimators, refuse_unfit_prompts, wanted_needs
from caft.pipeline.gold_room import check_gold_room
from caft.pipeline.matched_budget import find_matched_budget
from caft.pipeline.stage_inputs import base_rationales, rationale_classes, tunes
from caft.pipeline.teaching import refuse_unaskable_teacher
from caft.pipeline.workspace import Workspace
from caft.records import Mode
from caft.run_config import RunConfig, RunContext, Until
from caft.store import Store
from caft.trainers.loggers import check_logger
from caft.tune.check import refuse_unmeasured
from caft.tune.stage import starting_student


def open_workspace(config: RunConfig, context: RunContext) -> Workspace:
    """Read the questions and check everything that can be checked without a tokenizer.

    A dry run downloads nothing, makes no store and needs no key: NotHereError where the questions
    are not on this machine. UserError where the user must act.
    """
    _check_machine(config)
    questions = load_questions(config.dataset, fetch=not config.dry_run)
    store = Store(config.store.folder, reads_only=config.dry_run)
    workspace = Workspace(config, context, questions, store)
    find_matched_budget(config)
    check_estimators(config, workspace.every_question)
    if tunes(config):
        _refuse_unmeasured_stages(workspace)
    _check_teacher(workspace)
    return workspace


def check_prompts_and_start(workspace: Workspace) -> None:
    """What needs the model's tokenizer, and the adapter that tuning starts from.

    UserError where answers or prompts would not fit: now, not after the scoring or the tuning.
    """
    check_gold_room(workspace)
    refuse_unfit_prompts(workspace)
    _refuse_prompts_without_room(workspace)
    if tunes(workspace.config):
        starting_student(workspace.student, workspace.config.tuning)


def _check_machine(config: RunConfig) -> None:
    if not config.dry_run:
        check_logger(config.logger)
    if config.trainer.devices > 1:
        from caft.trainers.build import refuse_too_many_devices

        refuse_too_many_devices(config.trainer)


def _check_teacher(workspace: Workspace) -> None:
    config = workspace.config
    # Whoever stops after the scores, to see what they are worth, needs no teacher yet.
    stops_early = config.until in (Until.score, Until.split)
    taught = rationale_classes(config.method) and not stops_early
    if taught or Need.rationale in wanted_needs(config):
        has_solutions = all(question.rationale for question in workspace.questions.train)
        check_teacher(has_solutions, config.teacher, pays=not config.dry_run)
        if not config.dry_run:
            refuse_unaskable_teacher(workspace)


def _refuse_prompts_without_room(workspace: Workspace) -> None:
    reaches = workspace.config.until in (Until.evaluate, Until.report)
    if not reaches or Mode.rationale not in workspace.config.evaluation.modes:
        return
    # The base model's prompts are the longest: only they have shots.
    work = base_rationales(workspace)
    if find_predictions(work, workspace.store):
        return
    lengths = {name: len(ids) for name, ids in encode_prompts(work)}
    workspace.student.refuse_long_prompts(lengths, work.max_new_tokens)


def _refuse_unmeasured_stages(workspace: Workspace) -> None:
    config = workspace.config
    for number, stage in enumerate(config.method.stages, start=1):
        # Classes are not known yet: as if every question could be asked for every target.
        questions = [
            (question, target)
            for question in workspace.questions.validation
            for target in dict.fromkeys(stage.targets.values())
        ]
        refuse_unmeasured(questions, config.dataset.prompt, config.tuning, number)

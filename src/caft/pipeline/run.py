"""The front door: checks what can be checked before a model loads, then runs the stages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from caft.data import load_questions
from caft.distill import check_teacher
from caft.estimators import Need
from caft.evaluate.stage import encode_prompts, find_predictions
from caft.exit_status import DONE, OUR_FAULT
from caft.pipeline.estimators import check_estimators, refuse_unfit_prompts, wanted_needs
from caft.pipeline.matched_budget import find_matched_budget
from caft.pipeline.outputs import write_outputs
from caft.pipeline.stage_inputs import base_rationales, rationale_classes, tunes
from caft.pipeline.stages import run_stages
from caft.pipeline.workspace import Workspace
from caft.records import Mode
from caft.run_config import RunConfig, RunContext, Until
from caft.store import Store, plain
from caft.trainers.loggers import RunIdentity, open_logger
from caft.tune.check import refuse_unmeasured
from caft.tune.stage import starting_student


def run_pipeline(config: RunConfig, context: RunContext) -> int:
    """Run the stages up to `until`; 0 when done. UserError where the user must act.

    OUR_FAULT where all is done but the page that shows it.
    """
    started = datetime.now(UTC)
    workspace = open_workspace(config, context)
    if config.dry_run:
        from caft.pipeline.dry_run import print_plan

        print_plan(workspace)
        return DONE
    refuse_prompts_without_room(workspace)
    if tunes(config):
        starting_student(workspace.student, config.tuning)
    with open_logger(config.logger, _identify(config, context)) as tracker:
        results = run_stages(workspace, tracker)
        drawn = write_outputs(workspace, results, tracker, started=started)
    return DONE if drawn else OUR_FAULT


def open_workspace(config: RunConfig, context: RunContext) -> Workspace:
    """Read the questions and check everything that can be checked before a model loads."""
    questions = load_questions(config.dataset)
    workspace = Workspace(config, context, questions, Store(_store_path(config)))
    find_matched_budget(config)
    check_estimators(config, workspace.every_question)
    if tunes(config):
        _refuse_unmeasured_stages(workspace)
    # Whoever stops after the scores, to see what they are worth, needs no teacher yet.
    stops_early = config.until in (Until.score, Until.split)
    taught = rationale_classes(config.method) and not stops_early
    if taught or Need.rationale in wanted_needs(config):
        has_solutions = all(question.rationale for question in questions.train)
        check_teacher(has_solutions, config.teacher, pays=not config.dry_run)
    return workspace


def refuse_prompts_without_room(workspace: Workspace) -> None:
    """UserError where a rationale would not fit behind its prompt: now, not after the tuning."""
    refuse_unfit_prompts(workspace)
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


def _identify(config: RunConfig, context: RunContext) -> RunIdentity:
    return RunIdentity(
        name=config.name,
        folder=context.folder,
        run_id=context.run_id,
        sweep=context.sweep,
        kind=config.method.name if config.until is Until.report else config.until.name,
        overrides=context.overrides,
        config=plain(config),
    )


def _store_path(config: RunConfig) -> Path:
    path = Path(config.store.path).expanduser()
    # The project's own folder where there is one: runs started elsewhere share their work.
    root = Path(__file__).parents[3]
    home = root if (root / "pyproject.toml").exists() else Path.cwd()
    return path if path.is_absolute() else home / path

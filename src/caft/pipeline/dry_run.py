"""`dry_run=true`: what would run, what is in the store, and what it would cost. Runs nothing."""

from __future__ import annotations

from dataclasses import replace

from caft.data import NotHereError
from caft.data.further import naming_further
from caft.evaluate.stage import ReplyInputs
from caft.models.config import HubModelConfig
from caft.models.sources.locate import find_model
from caft.packed import pack
from caft.pipeline.data_table import print_first_row
from caft.pipeline.needs import tell_needs
from caft.pipeline.planned import RUNS, PlannedStage, print_table
from caft.pipeline.planner import Planner
from caft.pipeline.preflight import (
    AskedStage,
    check_gold_room,
    further_stages,
    later_stages,
    open_workspace,
    refuse_without_thinking,
)
from caft.pipeline.sharded import refuse_undivided
from caft.pipeline.workspace import Workspace
from caft.run_config import RunConfig, RunContext
from caft.score.config import PublishedScoreConfig


def print_plan(config: RunConfig, context: RunContext) -> None:
    """Print the plan as a table of at most 80 columns. Writes no file, opens no connection."""
    try:
        workspace = open_workspace(config, context)
    except NotHereError as error:
        missing = PlannedStage("data", RUNS, f"{error}; the rest is known after the download")
        print_table(f"{config.name}: its questions are not on this machine.", [missing])
        return
    questions = workspace.questions
    if questions.sources and not context.sweep:  # a sweep would repeat it
        print_first_row(questions, config)
    counts = (
        f"{len(questions.train)} training, {len(questions.validation)} validation and "
        f"{len(questions.test)} test questions."
    )
    plan = plan_run(workspace)
    print_table(f"{config.name}: {counts}", plan, *tell_needs(workspace, plan))


def plan_run(workspace: Workspace) -> list[PlannedStage]:
    """The stages up to `until`, in order."""
    model = workspace.config.model
    if find_model(model) is not None:
        check_gold_room(workspace)
        refuse_without_thinking(workspace)
        refuse_undivided(workspace)
        scores = not isinstance(workspace.config.score, PublishedScoreConfig)
        for stage in [*([workspace.base_scoring] if scores else []), *later_stages(workspace)]:
            _check_longest(workspace, stage)
        for name, further in further_stages(workspace):
            with naming_further(name):
                _check_longest(workspace, further)
        return Planner(workspace, workspace.student).plan()
    downloads = isinstance(model, HubModelConfig)
    work = f"download {model.id}" if downloads else "made once, in the model cache"
    return [PlannedStage("model", RUNS, work), *Planner(workspace, None).plan()]


def _check_longest(workspace: Workspace, stage: AskedStage) -> None:
    """As a run checks all prompts of a stage, by the longest question: a sweep has many plans.

    An engine is not asked, which may be a server.
    """
    if workspace.store.find(stage) or not stage.questions:
        return
    longest = max(stage.questions, key=lambda each: len(each.text) + sum(map(len, each.options)))
    alone = replace(stage, questions=pack([longest]))
    (replace(alone, engine=None) if isinstance(alone, ReplyInputs) else alone).check()

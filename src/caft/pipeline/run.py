"""Runs one config, from its checks to its outputs, or prints its plan."""

from __future__ import annotations

from datetime import UTC, datetime

from caft.console import tell
from caft.pipeline.entropy_gain import refuse_without_log_probabilities
from caft.pipeline.outputs import write_outputs
from caft.pipeline.preflight import check_prompts_and_start, open_workspace
from caft.pipeline.stages import run_stages
from caft.run_config import RunConfig, RunContext, Until
from caft.signals import DONE, OUR_FAULT
from caft.store import plain
from caft.trainers.loggers import list_commands, name_viewer, open_logger
from caft.trainers.tracker import RunIdentity

_NOT_SHOWN = (
    "seed=",
    "name=",
    "model=",
    "dataset=",
    "method=",
    "hydra",
    "store.",
    "logger",
    "trainer.",
)


def run_pipeline(config: RunConfig, context: RunContext) -> int:
    """Run the stages up to `until`; 0 when done. UserError if the user must act.

    OUR_FAULT if everything is done except the page.
    """
    if config.dry_run:
        from caft.pipeline.dry_run import print_plan

        print_plan(config, context)
        return DONE
    if config.until is Until.data:
        from caft.pipeline.data_table import print_data

        print_data(config)
        return DONE
    started = datetime.now(UTC)
    workspace = open_workspace(config, context)
    refuse_without_log_probabilities(workspace)
    check_prompts_and_start(workspace)
    with open_logger(config.logger, _identify(config, context)) as tracker:
        results = run_stages(workspace, tracker)
        drawn = write_outputs(workspace, results, tracker, started=started)
    # A sweep says it once for all of its jobs.
    commands = [*list_commands(context.folder), *name_viewer(config.logger)]
    for command in [] if context.sweep else commands:
        tell(f"Logger  {command}")
    return DONE if drawn else OUR_FAULT


def _identify(config: RunConfig, context: RunContext) -> RunIdentity:
    return RunIdentity(
        name=", ".join([config.name, f"seed {config.seed}", *name_setting(context)]),
        folder=context.folder,
        run_id=context.run_id,
        sweep=context.sweep,
        kind=config.method.name if config.until is Until.report else config.until.name,
        overrides=context.overrides,
        config=plain(config),
    )


def name_setting(context: RunContext) -> list[str]:
    """What sets the run apart: a job's own overrides, which name its folder, or those given.

    Without the seed and what is in the name of a run anyway.
    """
    title = context.folder.name.removesuffix(context.run_id[:8]).rstrip("-")
    words = title.split(",") if context.sweep else context.overrides
    return [word for word in words if word and not word.startswith(_NOT_SHOWN)]

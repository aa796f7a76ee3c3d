"""Many jobs of one command: listed, checked, run by Hydra's launchers, and resumed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from caft.console import tell
from caft.errors import UserError, count_of, first_line
from caft.hydra_bridge.composing import (
    OWN_SWEEPER,
    build_run_config,
    compose_overrides,
    find_job_folder,
    read_question,
    without_hydra,
)
from caft.hydra_bridge.jobs import (
    Start,
    count_devices,
    refuse_other_job,
    run_job,
    runs_elsewhere,
)
from caft.hydra_bridge.listing import JobOverrides, first_trial, list_jobs, parse, searches
from caft.hydra_bridge.run_log import check_logging
from caft.hydra_bridge.running import Run
from caft.run_config import RunConfig, RunContext, Until
from caft.signals import DONE, USER_MUST_ACT, Caught, say
from caft.sums import is_finished
from caft.sweeps import job_table
from caft.sweeps.devices import count_groups
from caft.sweeps.run_folders import (
    digest_config,
    name_sweep,
    refuse_bad_subfolder,
    refuse_finished_run_for_sweep,
    refuse_unwritable_folder,
)
from caft.sweeps.smallest_difference import describe_smallest_difference
from caft.sweeps.stopping import JobError, named_command, stop_jobs
from caft.threads import divided_cores, usable_cores
from caft.trainers.loggers import list_commands, name_viewer

_WIDEST = 80


def run_sweep(
    hydra: Hydra, name: str, overrides: Sequence[str], *, run: Run, start: Start, caught: Caught
) -> int:
    """Run the missing jobs of a sweep; 1 if a job met a bug, else 2 if the user must act.

    Everything is checked before the first job starts. A job that fails does not stop the others. In
    a dry run the plans of the jobs are printed and nothing is written.
    """
    master = _compose_sweep(hydra, name, overrides)
    folder = Path(master.hydra.sweep.dir)
    if _only_shows(master):
        check_logging(master, folder, opens=False)
        return _plan_sweep(hydra, master, run)
    refuse_unwritable_folder(folder)
    refuse_finished_run_for_sweep(folder)
    check_logging(master, folder)
    kept: dict[str, tuple[RunConfig, RunContext]] = {}
    planned = check_jobs(hydra, master, kept)
    elsewhere = runs_elsewhere(str(master.hydra.launcher._target_))
    if not elsewhere:  # a cluster's machines may have other files, keys and devices
        _refuse_beforehand(folder, kept)
    question = read_question(master.hydra.runtime)
    missing = job_table.plan_jobs(folder, [job for job, _ in planned], question or None)
    _print_plan(folder, len(planned), len(missing))
    # A cluster's queue runs its jobs whether or not this command waits for them.
    caught.pass_on = None if elsewhere else partial(stop_jobs, folder)
    configure_log(master.hydra.hydra_logging, master.hydra.verbose)
    began = job_table.now()
    try:
        overrides_of = {job.folder: each.all for job, each in planned}
        # With its folder, because a launcher that counts from 0 again would name another one.
        pinned = [
            [*overrides_of[job.folder], f"hydra.sweep.subdir='{job.folder}'"] for job in missing
        ]
        at_once = count_at_once(master, len(planned))
        with named_command(), divided_cores(at_once), _launching(master, folder, began):
            _launch(hydra, master, start, pinned)
    except JobError as error:
        # A search ends if a trial has no value; the job table has the reason.
        say(f"the search ended early: {error}")
    except (KeyboardInterrupt, SystemExit):
        if elsewhere:
            say("jobs in the cluster's queue keep running; scancel ends them")
        raise
    finally:
        caught.pass_on = None
        job_table.settle(folder)
        write_report(folder)
        _tell_viewers(folder, [config for config, _ in kept.values()])
    return _conclude(folder, {job.folder for job, _ in planned}, began)


def _refuse_beforehand(folder: Path, jobs: Mapping[str, tuple[RunConfig, RunContext]]) -> None:
    """UserError names the first job that would refuse its data; jobs that have finished do not.

    A search's trial has no name, since its folder is not known; it is not the sweep's own.
    """
    from caft.pipeline.beforehand import refuse_beforehand

    checked: list[RunConfig] = []
    questions, read = None, None
    for name, (config, context) in jobs.items():
        alike, where = replace(config, seed=0), folder / (name or "trial")
        if alike in checked or is_finished(where):
            continue
        if config.dataset != read:
            questions, read = None, config.dataset
        try:
            questions = refuse_beforehand(config, replace(context, folder=where), questions)
        except UserError as error:
            raise UserError(f"job {name}: {error}" if name else str(error)) from error
        checked.append(alike)


def _plan_sweep(hydra: Hydra, master: DictConfig, run: Run) -> int:
    """The plan of every job; of the first one only if a search chooses the others."""
    configure_log(master.hydra.hydra_logging, master.hydra.verbose)
    kept: dict[str, tuple[RunConfig, RunContext]] = {}
    planned = check_jobs(hydra, master, kept)
    _print_plan(Path(master.hydra.sweep.dir), len(planned), len(planned))
    if not planned:
        return run(kept[""][0], dry_context(master))
    status = DONE
    for job, _ in planned:
        tell(f"\njob {job.folder}")
        try:
            run(*kept[job.folder])
        except UserError as error:
            say(f"job {job.folder}: {error}")
            status = USER_MUST_ACT
    if sensitivity := describe_smallest_difference([config for config, _ in kept.values()]):
        tell(f"\n{textwrap.fill(sensitivity, _WIDEST)}")
    return status


def dry_context(composed: DictConfig, sweep: str = "") -> RunContext:
    """For a run in this process that only shows: nothing makes its folder."""
    hydra = composed.hydra
    return RunContext(
        folder=Path(hydra.run.dir), overrides=tuple(hydra.overrides.task), sweep=sweep
    )


def _launch(hydra: Hydra, master: DictConfig, start: Start, jobs: list[list[str]]) -> None:
    OmegaConf.save(master, Path(master.hydra.sweep.dir) / "multirun.yaml")
    kind = "sweeper" if searches(master) else "launcher"
    if kind == "launcher" and not jobs:
        return
    plugins = Plugins.instance()
    make = plugins.instantiate_sweeper if kind == "sweeper" else plugins.instantiate_launcher
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(master))
    try:
        plugin = make(config=master, hydra_context=context, task_function=partial(run_job, start))
    except Exception as error:  # any exception of a class that is not ours
        raise UserError(
            f"hydra.{kind} cannot be used: {error}; choose one with hydra/{kind}=, and give only "
            "values that it takes"
        ) from error
    if kind == "sweeper":
        plugin.sweep(arguments=list(master.hydra.overrides.task))
    else:
        plugin.launch(jobs, initial_job_idx=0)


@contextmanager
def _launching(master: DictConfig, folder: Path, began: str) -> Iterator[None]:
    """UserError if a launcher or sweeper fails before it has begun any job.

    Their classes accept any value, and some check it only when they start. JobError if a search
    fails since no job has a value.
    """
    try:
        yield
    except (UserError, JobError, OSError):
        raise
    except Exception as error:
        begun = [j for j in job_table.read_job_table(folder) if (j.started or "") >= began]
        if begun and searches(master) and not any(j.state == job_table.DONE_STATE for j in begun):
            raise JobError(f"no job has a value ({first_line(error)})") from error
        if begun:
            raise
        raise UserError(
            f"this sweep's launcher or sweeper began no job: {type(error).__name__}: {error}; "
            "correct hydra.launcher or hydra.sweeper, or leave them out"
        ) from error


def _compose_sweep(hydra: Hydra, name: str, overrides: Sequence[str]) -> DictConfig:
    """The sweep's own config with its folder, and with jobs named by the overrides that differ."""
    master = compose_overrides(hydra, name, overrides, RunMode.MULTIRUN)
    parsed = parse(hydra, master.hydra.overrides.task)
    swept = [each.key_or_group for each in parsed if each.is_sweep_override()]
    shared = [each.key_or_group for each in parsed if not each.is_sweep_override()]
    shared = list(dict.fromkeys(["multirun_sweeps", *shared]))
    more = [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(shared)}]"]
    if master.hydra.runtime.choices["hydra/sweeper"] == "basic":
        more.append(f"hydra/sweeper={OWN_SWEEPER}")
    if not master.hydra.sweep.dir:
        title = master.hydra.runtime.choices.get("multirun_sweeps") or ",".join(swept)
        base = OmegaConf.to_container(without_hydra(master), resolve=False, enum_to_str=True)
        more.append(f"hydra.sweep.dir='outputs/multirun/{name_sweep(title, base)}'")
    return compose_overrides(hydra, name, [*overrides, *more], RunMode.MULTIRUN)


def check_jobs(
    hydra: Hydra, master: DictConfig, kept: dict[str, tuple[RunConfig, RunContext]] | None = None
) -> list[tuple[job_table.Job, JobOverrides]]:
    """Every job, composed and typed; the same config twice is one job.

    `kept` gets, by the job's folder, what a run of it in this process takes; of a search the first
    possible trial.
    """
    if searches(master):
        config = first_trial(hydra, master)
        if not config.only_shows and config.until not in {Until.evaluate, Until.report}:
            raise UserError(
                "a search compares validation accuracies, and there are none yet with "
                f"until={config.until.name}; leave it out"
            )
        if kept is not None:
            kept[""] = (config, dry_context(master, Path(master.hydra.sweep.dir).name))
    jobs: dict[str, tuple[job_table.Job, JobOverrides]] = {}
    for overrides in list_jobs(hydra, master):
        composed = hydra.config_loader.load_sweep_config(master, list(overrides.all))
        with open_dict(composed):
            composed.hydra.job.num = len(jobs)
        config = build_run_config(without_hydra(composed))
        digest = digest_config(config)
        folder = find_job_folder(composed, config)
        refuse_bad_subfolder(folder)
        job = job_table.Job(
            number=len(jobs),
            folder=folder,
            overrides=list(overrides.own),
            shared=[each for each in overrides.all if each not in overrides.own],
            digest=digest,
        )
        if config.only_shows is not _only_shows(master):
            raise UserError(
                "dry_run or until=data differs from job to job; give one value for the whole sweep"
            )
        if not config.only_shows:
            refuse_unwritable_folder(Path(master.hydra.sweep.dir) / folder)
            refuse_other_job(Path(master.hydra.sweep.dir) / folder, digest)
        same, _ = jobs.setdefault(folder, (job, overrides))
        if kept is not None:
            context = dry_context(composed, Path(master.hydra.sweep.dir).name)
            kept.setdefault(folder, (config, context))
        if same.digest != digest:
            raise UserError(
                f"hydra.sweep.subdir gives the folder {folder} to two different jobs; leave it "
                "out, and every job's folder is named by the overrides that differ"
            )
    return list(jobs.values())


def count_at_once(master: DictConfig, planned: int) -> int:
    """How many of a sweep's jobs this machine runs at a time, as far as its launcher says so.

    Not how many are missing: a sweep that is resumed computes as it would have in one go.
    """
    launcher, most = master.hydra.launcher, planned or master.hydra.sweeper.get("n_jobs") or 1
    if str(launcher._target_).endswith("LocalLauncher"):  # submitit starts all of them
        workers = most
    else:
        # Joblib's way to count; Slurm's jobs, and those that run one by one, have no such key.
        workers = launcher.get("n_jobs") or 1
        workers = workers if workers > 0 else usable_cores() + 1 + workers
    groups = count_groups(count_devices(master.trainer, shared=True))
    return max(1, min(workers, most, groups or most))


def _only_shows(master: DictConfig) -> bool:
    return bool(master.get("dry_run")) or master.get("until") == Until.data.name


def _print_plan(folder: Path, planned: int, missing: int) -> None:
    count = f": {count_of(planned, 'job')}" if planned else ""
    finished = f", {planned - missing} of them finished before" if missing < planned else ""
    tell(f"sweep {folder}{count}{finished}")


def _tell_viewers(folder: Path, configs: Sequence[RunConfig]) -> None:
    commands = list_commands(folder)
    with suppress(ImportError):  # a job without its logger's package has said so
        commands += chain.from_iterable(name_viewer(config.logger) for config in configs)
    for command in dict.fromkeys(commands):
        tell(f"sweep's runs: {command}")


def _conclude(folder: Path, planned: set[str], began: str) -> int:
    jobs = job_table.read_job_table(folder)
    # A search counts only its own trials; those of an earlier search may have failed for good.
    jobs = [
        job for job in jobs if (job.folder in planned if planned else (job.started or "") >= began)
    ]
    running = [job.folder for job in jobs if job.state == job_table.RUNNING]
    failed = [job for job in jobs if job.state in (job_table.FAILED, job_table.STOPPED)]
    if failed:
        say(
            f"{len(failed)} of {count_of(len(jobs), 'job')} of this sweep failed; the same command "
            f"runs again what failed, each job's log is in its folder under {folder}"
        )
    if running:
        say(
            f"{len(running)} of {count_of(len(jobs), 'job')} of this sweep: still run by other "
            f"processes; the same command waits for that, each job's log is under {folder}"
        )
    return job_table.worst_status(jobs)


def write_report(folder: Path) -> None:
    """The sweep's own report; an error in it does not affect the jobs' results."""
    try:
        from caft.report.sweep import list_answers, write_head, write_sweep_report

        summary = write_sweep_report(folder)
        for text in (write_head(summary), *list_answers(summary)):
            tell(textwrap.fill(text, _WIDEST))
        tell(f"sweep report: {folder / 'report.html'}")
    except Exception as error:
        say(f"the sweep's report was not written: {type(error).__name__}: {error}")

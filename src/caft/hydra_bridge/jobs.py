"""One job of a sweep: its config is saved, then a new process runs it, whatever the launcher.

The process starts from the saved config and not from the sweep's command line, so that a launcher's
reused workers carry nothing over from one job to the next.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol, TypedDict

from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from caft.console import tell
from caft.errors import UserError
from caft.hydra_bridge.composing import build_run_config
from caft.hydra_bridge.nodes import follow, is_follower, leading
from caft.hydra_bridge.overrides import create_resolved
from caft.hydra_bridge.run_log import read_verbose
from caft.hydra_bridge.running import Run, end_on_signals, guard
from caft.run_config import RunContext
from caft.signals import DONE, OUR_FAULT, USER_MUST_ACT, Caught, say
from caft.sums import is_finished, read_json, read_summary
from caft.sweeps import job_table
from caft.sweeps.devices import own_devices
from caft.sweeps.run_folders import digest_config, job_lock
from caft.sweeps.stopping import (
    JobError,
    ending_with_command,
    forget_dead_children,
    is_worker,
    noted_child,
    refuse_while_stopping,
    saved_before_requeue,
)

_COMMAND = (sys.executable, "-m", "caft", "job")
"""The command that runs the job of a folder, which is its one argument."""

FROZEN = ".hydra/frozen.json"
_ERROR = ".hydra/error.txt"
_ONE_BY_ONE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class Start(Protocol):
    """Runs the frozen job of a folder to its end and returns its exit status."""

    def __call__(self, folder: Path, *, console: Path | None, env: Mapping[str, str]) -> int: ...  # noqa: D102


class _Frozen(TypedDict):
    """Everything that a job's process needs, as its folder has it."""

    config: object
    logging: object
    verbose: object
    overrides: list[str]
    digest: str


def run_job(start: Start, composed: DictConfig) -> float | None:
    """What launchers call. Returns the validation accuracy, for sweepers that search by it."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    with _bound_to_command():
        refuse_while_stopping(folder.parent)
        if is_finished(folder):
            refuse_other_job(folder, digest_config(build_run_config(composed)))
        elif is_follower():
            logging.getLogger().handlers.clear()  # run.log is the leader's
            follow(partial(build_run_config, composed))
            return None
        else:
            _run(start, composed, job, folder)
    return _read_objective(folder)


def refuse_other_job(folder: Path, digest: str) -> None:
    """UserError if the folder holds a finished job of another config."""
    frozen = read_json(folder / FROZEN)
    there = frozen.get("digest", digest) if isinstance(frozen, dict) else digest
    if there != digest and is_finished(folder):
        raise UserError(
            f"{folder} holds a finished job of another config, and hydra.sweep.subdir names it "
            "again; leave hydra.sweep.subdir out, or give another hydra.sweep.dir"
        )


def runs_elsewhere(launcher: str) -> bool:
    """Whether a launcher, given by its target, puts jobs into a cluster's queue."""
    return launcher.endswith("SlurmLauncher")


def _run(start: Start, composed: DictConfig, job: DictConfig, folder: Path) -> None:
    digest = _freeze(composed, job, folder)
    launcher = str(job.launcher._target_)
    console = None if launcher == _ONE_BY_ONE else folder / "console.log"
    shared = console is not None and not runs_elsewhere(launcher)
    planned = job_table.Job(folder=folder.name, overrides=list(job.overrides.task), digest=digest)
    warning = int(job.launcher.signal_delay_s) if runs_elsewhere(launcher) else 0
    devices = own_devices(folder.parent, count_devices(composed.trainer, shared=shared))
    with devices as env, saved_before_requeue(folder, warning / 2):
        began = time.monotonic()
        status = start(folder, console=console, env=env)
    entry = job_table.conclude(folder, planned, status, _read_error(folder))
    _report_outcome(folder, entry, time.monotonic() - began, console)
    if entry.state != job_table.DONE_STATE:
        raise JobError(f"{folder.name} ended with exit status {status}")


def count_devices(trainer: DictConfig, *, shared: bool) -> int:
    """How many accelerators a job needs for itself; 0 if no other job uses one."""
    return int(trainer.devices) if shared and trainer.accelerator != "cpu" else 0


def _report_outcome(
    folder: Path, entry: job_table.Job, seconds: float, console: Path | None
) -> None:
    if entry.state == job_table.DONE_STATE:
        stages = (read_summary(folder) or {}).get("stages", [])
        cached = ", ".join(stage["name"] for stage in stages if stage["cached"])
        reused = f"; taken from the store: {cached}" if cached else ""
        tell(f"job {folder.name}: done in {seconds:.0f} s{reused}")
    elif entry.state == job_table.RUNNING:
        say(f"job {folder.name}: another process is running it; this one stops waiting")
    elif entry.state == job_table.FAILED and (console or entry.exit_status not in (1, 2)):
        # A job that shares our console has printed it already.
        message = entry.error or "failed"
        log = "" if "run.log" in message else f"; its log is {folder / 'run.log'}"
        say(f"job {folder.name}: {message}{log}")


def _read_objective(folder: Path) -> float | None:
    """Validation accuracy of the tuned model (else the base) in its best mode; never the test's."""
    accuracy = (read_summary(folder) or {}).get("accuracy") or {}
    for who in ("tuned", "base"):
        mode = (accuracy.get("best_mode") or {}).get(who)
        if mode:
            return float(accuracy["validation"][who][mode])
    return None


def _freeze(composed: DictConfig, job: DictConfig, folder: Path) -> str:
    """Write everything that the job's process needs, and return the config's digest."""
    digest = digest_config(build_run_config(composed))
    frozen: _Frozen = {
        "config": OmegaConf.to_container(composed, resolve=True, enum_to_str=True),
        "logging": OmegaConf.to_container(job.job_logging, resolve=True),
        "verbose": read_verbose(job),
        "overrides": list(job.overrides.task),
        "digest": digest,
    }
    path = folder / FROZEN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(frozen, indent=1), encoding="utf-8")
    return digest


def start_child(
    folder: Path,
    *,
    console: Path | None,
    env: Mapping[str, str],
    command: Sequence[str] = _COMMAND,
) -> int:
    """Run the job in a process, and process group, of its own. Negative: ended by a signal."""
    forget_dead_children(folder)
    with console.open("ab") if console else nullcontext() as out:
        process = subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
            env={**os.environ, **env},
            # Ctrl-C in a terminal reaches the sweep alone, which passes it on once.
            process_group=0,
        )
    try:
        with noted_child(folder, process.pid):
            # A sweep that was stopped a moment ago may not have seen this child.
            refuse_while_stopping(folder.parent)
            return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def main_job(run: Run, folder: Path) -> int:
    """Run the frozen job of `folder`; its exit status. Called in a process of its own.

    A cluster's warning reaches every process of its job; this one is asked to end by its starter.
    """
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with leading():
        return end_on_signals(lambda caught: _run_frozen(run, folder, caught))


def _run_frozen(run: Run, folder: Path, caught: Caught) -> int:
    if not (folder / FROZEN).is_file():
        say(
            f"{folder} is no job of a sweep: it has no {FROZEN}; give the folder of one job, which "
            "is inside the sweep's"
        )
        return USER_MUST_ACT
    frozen: _Frozen = json.loads((folder / FROZEN).read_text(encoding="utf-8"))
    composed = create_resolved(frozen["config"])
    context = RunContext(
        folder=folder,
        overrides=tuple(frozen["overrides"]),
        config_yaml=OmegaConf.to_yaml(composed, resolve=True),
        run_id=frozen["digest"],
        sweep=folder.parent.name,
    )
    configure_log(create_resolved(frozen["logging"]), frozen["verbose"])

    def keep_error(message: str) -> None:
        (folder / _ERROR).write_text(" ".join(message.split()), encoding="utf-8")

    with _alone_in(folder):
        if is_finished(folder):
            return DONE
        work = partial(guard, run, partial(build_run_config, composed), context, keep_error)
        return _run_noted(work, frozen, folder, caught)


def _run_noted(work: Callable[[], int], frozen: _Frozen, folder: Path, caught: Caught) -> int:
    """The result is in job.json before the lock is released: the parent may be dead by then."""
    (folder / _ERROR).unlink(missing_ok=True)
    entry = job_table.begin(folder, frozen["overrides"], frozen["digest"])
    status = None
    try:
        status = work()
        return status
    finally:
        if status is None:
            status = OUR_FAULT if caught.number is None else caught.status
        job_table.end(folder, entry, status, _read_error(folder))


def _read_error(folder: Path) -> str | None:
    try:
        return (folder / _ERROR).read_text(encoding="utf-8") or None
    except OSError:
        return None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two processes never run the same job: a sweep that was killed may have left one behind."""
    lock = job_lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"job {folder.name} is being run by another process; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _bound_to_command() -> Iterator[None]:
    """In a launcher's worker: Ctrl-C is left to the command, and the worker ends with it."""
    if not is_worker() or threading.current_thread() is not threading.main_thread():
        yield
        return
    # A handler that does nothing, since jobs would inherit a signal that is ignored.
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        with ending_with_command():
            yield
    finally:
        signal.signal(signal.SIGINT, before)

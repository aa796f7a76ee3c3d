"""One job of a sweep: frozen, then run by a fresh process of its own, whatever the launcher.

The process is started from the frozen config and not from the sweep's command line. Workers that
a launcher reuses thus carry nothing from job to job, and the children that Lightning's DDP makes
replay the job, never the sweep.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from caft.console import tell
from caft.errors import UserError
from caft.hydra_bridge.composing import build_run_config, escape_dollars
from caft.hydra_bridge.running import Run, end_on_signals, guard
from caft.run_config import RunContext
from caft.signals import DONE, OUR_FAULT, Caught, say
from caft.sweeps import job_table
from caft.sweeps.devices import own_devices
from caft.sweeps.run_folders import (
    digest_config,
    is_finished,
    job_lock,
    read_json,
    read_summary,
)
from caft.sweeps.stopping import JobError, forget_dead_children, noted_child, refuse_while_stopping

COMMAND = (sys.executable, "-m", "caft", "job")
"""What runs the job of a folder, given as its one argument."""

FROZEN = ".hydra/frozen.json"
ERROR = ".hydra/error.txt"
_ONE_BY_ONE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class Start(Protocol):
    """Runs the frozen job of a folder to its end and returns its exit status."""

    def __call__(self, folder: Path, *, console: Path | None, env: Mapping[str, str]) -> int: ...  # noqa: D102


def run_job(start: Start, composed: DictConfig) -> float | None:
    """What launchers call. Returns the validation accuracy, for sweepers that search by it."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    refuse_while_stopping(folder.parent)
    if is_finished(folder):
        refuse_other_job(folder, digest_config(build_run_config(composed)))
    else:
        _run(start, composed, job, folder)
    return read_objective(folder)


def refuse_other_job(folder: Path, digest: str) -> None:
    """UserError where a finished job of another config has taken the folder's name."""
    frozen = read_json(folder / FROZEN)
    there = frozen.get("digest", digest) if isinstance(frozen, dict) else digest
    if there != digest and is_finished(folder):
        raise UserError(
            f"{folder} holds a finished job of another config, and hydra.sweep.subdir names it "
            "again; leave hydra.sweep.subdir out, or give another hydra.sweep.dir"
        )


def runs_elsewhere(launcher: str) -> bool:
    """Whether a launcher, given by its target, hands jobs to a cluster's queue."""
    return launcher.endswith("SlurmLauncher")


def _run(start: Start, composed: DictConfig, job: DictConfig, folder: Path) -> None:
    digest = freeze(composed, job, folder)
    launcher = str(job.launcher._target_)
    console = None if launcher == _ONE_BY_ONE else folder / "console.log"
    shared = console is not None and not runs_elsewhere(launcher)
    planned = job_table.Job(folder=folder.name, overrides=list(job.overrides.task), digest=digest)
    with (
        _deaf_to_interrupts(),
        own_devices(folder.parent, count_devices(composed.trainer, shared=shared)) as env,
    ):
        began = time.monotonic()
        status = start(folder, console=console, env=env)
    entry = job_table.conclude(folder, planned, status, _read_error(folder))
    _say_outcome(folder, entry, time.monotonic() - began, console)
    if entry.state != job_table.DONE_STATE:
        raise JobError(f"{folder.name} ended with exit status {status}")


def count_devices(trainer: DictConfig, *, shared: bool) -> int:
    """How many accelerators a job must have to itself; 0 where nobody else wants one."""
    if not shared or trainer.accelerator == "cpu":
        return 0
    return trainer.devices if isinstance(trainer.devices, int) and trainer.devices > 0 else 1


def _say_outcome(folder: Path, entry: job_table.Job, seconds: float, console: Path | None) -> None:
    if entry.state == job_table.DONE_STATE:
        tell(f"job {folder.name}: done in {seconds:.0f} s{_reused(folder)}")
    elif entry.state == job_table.RUNNING:
        say(f"job {folder.name}: another process is running it; it is not waited for any more")
    elif entry.state == job_table.FAILED and (console or entry.exit_status not in (1, 2)):
        # A job that shares our console has said it already.
        message = entry.error or "failed"
        log = "" if "run.log" in message else f"; its log is {folder / 'run.log'}"
        say(f"job {folder.name}: {message}{log}")


def _reused(folder: Path) -> str:
    summary = read_summary(folder) or {}
    cached = [stage["name"] for stage in summary.get("stages", []) if stage["cached"]]
    return f"; taken from the store: {', '.join(cached)}" if cached else ""


def read_objective(folder: Path) -> float | None:
    """Validation accuracy of the tuned model (else the base) in its best mode; never the test's."""
    accuracy = (read_summary(folder) or {}).get("accuracy") or {}
    for who in ("tuned", "base"):
        mode = (accuracy.get("best_mode") or {}).get(who)
        if mode:
            return float(accuracy["validation"][who][mode])
    return None


def freeze(composed: DictConfig, job: DictConfig, folder: Path) -> str:
    """Write everything that the job's process needs, and return the config's digest."""
    digest = digest_config(build_run_config(composed))
    frozen = {
        "config": OmegaConf.to_container(composed, resolve=True, enum_to_str=True),
        "logging": OmegaConf.to_container(job.job_logging, resolve=True),
        "verbose": OmegaConf.to_container(job, resolve=False)["verbose"],  # type: ignore[call-overload, index]
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
    command: Sequence[str] = COMMAND,
) -> int:
    """Run the job in a process, and process group, of its own. Negative: ended by a signal."""
    forget_dead_children(folder)
    out = console.open("ab") if console else None
    try:
        process = subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
            env={**os.environ, **env},
            # Ctrl-C in a terminal reaches the sweep alone, which passes it on once.
            process_group=0,
        )
    finally:
        if out:
            out.close()
    try:
        with noted_child(folder, process.pid):
            # A sweep that was stopped a moment ago may not have seen this child.
            refuse_while_stopping(folder.parent)
            return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


# --- In the job's own process ------------------------------------------------------------------


def main_job(run: Run, folder: Path) -> int:
    """Run the frozen job of `folder`; its exit status. Called in a process of its own."""
    return end_on_signals(lambda caught: _run_frozen(run, folder, caught))


def _run_frozen(run: Run, folder: Path, caught: Caught) -> int:
    frozen = json.loads((folder / FROZEN).read_text(encoding="utf-8"))
    composed = OmegaConf.create(escape_dollars(frozen["config"]))
    context = RunContext(
        folder=folder,
        overrides=tuple(frozen["overrides"]),
        config_yaml=OmegaConf.to_yaml(composed, resolve=True),
        in_sweep=True,
        run_id=frozen["digest"],
        sweep=folder.parent.name,
    )
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        # A rank that DDP made: the first one has the log, the lock and the word.
        return run(build_run_config(composed), context)
    configure_log(OmegaConf.create(frozen["logging"]), frozen["verbose"])

    def keep_error(message: str) -> None:
        (folder / ERROR).write_text(" ".join(message.split()), encoding="utf-8")

    with _alone_in(folder):
        if is_finished(folder):
            return DONE
        build = partial(build_run_config, composed)
        return _run_noted(
            partial(guard, run, build, context, tell=keep_error), frozen, folder, caught
        )


def _run_noted(
    work: Callable[[], int], frozen: Mapping[str, Any], folder: Path, caught: Caught
) -> int:
    """How it ends is in job.json before the lock is free: the starter may be dead by then."""
    (folder / ERROR).unlink(missing_ok=True)
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
        return (folder / ERROR).read_text(encoding="utf-8") or None
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


# --- Devices and signals of launchers that run jobs side by side -------------------------------


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """In a launcher's worker, Ctrl-C is left to the sweep, which stops the jobs."""
    in_worker = os.environ.get("LOKY_PARENT") or "joblib.externals.loky" in str(sys.argv)
    if not in_worker or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

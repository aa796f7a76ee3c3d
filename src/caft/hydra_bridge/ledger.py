"""A sweep's ledger: which jobs there are and how each one stands.

Every job keeps its own `job.json`, written by the one process that starts it. `jobs.json` in the
sweep's folder is put together from those by whoever changed one: nothing is locked, since the
last of two writers has read what the first one wrote about its job.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caft.exit_status import DONE, OUR_FAULT, USER_MUST_ACT
from caft.hydra_bridge.folders import is_finished

WAITING, RUNNING, DONE_STATE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
STOP_FILE = ".stopping"
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One entry. `folder` and `log` are relative to the sweep's; times are ISO, in UTC.

    `overrides` are the words that the job does not share with all others. `superseded`: a file of
    the config has changed since, and the same words now mean another job.
    """

    number: int = 0
    folder: str
    overrides: list[str] = field(default_factory=list)
    digest: str = ""
    state: str = WAITING
    exit_status: int | None = None
    error: str | None = None
    started: str | None = None
    finished: str | None = None
    log: str = ""
    process: int | None = None
    host: str | None = None
    superseded: bool = False


def plan_jobs(folder: Path, jobs: Sequence[Job], question: str | None = None) -> list[Job]:
    """Write the ledger before anything runs, and return the jobs that are still to be run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP_FILE).unlink(missing_ok=True)
    before = {job.folder: job for job in read_ledger(folder)}
    planned = [_carry_over(folder, job, before.get(job.folder)) for job in jobs]
    names = {job.folder for job in planned}
    words = {frozenset(job.overrides) for job in planned}
    # Jobs of an earlier, wider sweep keep their lines.
    others = [job for name, job in before.items() if name not in names]
    planned += [
        replace(job, number=n, superseded=frozenset(job.overrides) in words)
        for n, job in enumerate(others, start=len(planned))
    ]
    write_ledger(folder, planned, question)
    return [job for job in planned[: len(jobs)] if job.state != DONE_STATE]


def _carry_over(folder: Path, job: Job, before: Job | None) -> Job:
    job = replace(job, log=f"{job.folder}/run.log")
    if not is_finished(folder / job.folder):
        return job
    known = before or read_job(folder / job.folder) or job
    return replace(
        known,
        number=job.number,
        state=DONE_STATE,
        exit_status=DONE,
        error=None,
        # An edit that was taken back makes the old job the planned one again.
        superseded=False,
    )


def read_ledger(folder: Path) -> list[Job]:
    """The jobs of jobs.json, each as its own job.json has it by now."""
    jobs = [_parse(entry) for entry in _read_table(folder).get("jobs", [])]
    jobs = [_merge(job, read_job(folder / job.folder)) for job in jobs]
    known = {job.folder for job in jobs}
    # A sweeper that searches decides on its jobs as it goes.
    found = [read_job(path.parent) for path in sorted(folder.glob("*/job.json"))]
    new = sorted((job for job in found if job and job.folder not in known), key=_started)
    return jobs + [replace(job, number=n) for n, job in enumerate(new, start=len(jobs))]


def _started(job: Job) -> str:
    return job.started or ""


def _merge(planned: Job, own: Job | None) -> Job:
    if own is None:
        return planned
    return replace(
        own,
        number=planned.number,
        overrides=planned.overrides or own.overrides,
        superseded=planned.superseded,
    )


def write_ledger(folder: Path, jobs: Iterable[Job], question: str | None = None) -> None:
    """jobs.json, whole or not at all. `question` is what the sweep asks, once for all writers."""
    if question is None:
        question = _read_table(folder).get("question", "")
    table = {"sweep": folder.name, "question": question, "jobs": [asdict(job) for job in jobs]}
    _write(folder / "jobs.json", table)


def _read_table(folder: Path) -> dict[str, Any]:
    try:
        table = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def read_job(folder: Path) -> Job | None:
    """A job's own entry; None where it has not been started."""
    try:
        return _parse(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def note_job(folder: Path, job: Job) -> None:
    """Write a job's own entry, then the ledger."""
    _write(folder / "job.json", asdict(job))
    write_ledger(folder.parent, read_ledger(folder.parent))


def begin(folder: Path, overrides: Sequence[str], digest: str) -> Job:
    """The entry of a job that starts now."""
    job = Job(
        folder=folder.name,
        overrides=list(overrides),
        digest=digest,
        state=RUNNING,
        started=_now(),
        log=f"{folder.name}/run.log",
        host=socket.gethostname(),
    )
    note_job(folder, job)
    return job


def end(folder: Path, job: Job, status: int, error: str | None) -> Job:
    """The entry of a job whose process ended with `status` (negative: by a signal)."""
    asked_to_stop = status in (-signal.SIGTERM, -signal.SIGINT, 130, 143)
    job = replace(
        job,
        state=DONE_STATE if status == DONE else STOPPED if asked_to_stop else FAILED,
        exit_status=128 - status if status < 0 else status,
        error=error or _name_death(status),
        finished=_now(),
        process=None,
    )
    note_job(folder, job)
    return job


def _name_death(status: int) -> str | None:
    if status >= 0:
        return None
    name = signal.Signals(-status).name
    hint = "; out of memory?" if -status == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"


def worst_status(jobs: Sequence[Job]) -> int:
    """1 where a job ended by a fault of ours, else 2 where the user must act, else 0."""
    failed = [job.exit_status for job in jobs if job.state in (FAILED, STOPPED)]
    if not failed:
        return DONE
    return USER_MUST_ACT if set(failed) == {USER_MUST_ACT} else OUR_FAULT


# --- Stopping ----------------------------------------------------------------------------------


def stop_jobs(folder: Path, number: int) -> None:
    """Pass a signal on to every job on this machine, and wait until each has saved its work."""
    (folder / STOP_FILE).touch()
    running = [job for job in read_ledger(folder) if _is_here(job)]
    for job in running:
        assert job.process is not None
        try:
            # A job leads a process group of its own: its DDP ranks are in it.
            os.killpg(job.process, number)
        except ProcessLookupError:
            continue
    while any(_is_alive(job.process) for job in running):
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def settle(folder: Path) -> None:
    """Jobs whose process is gone without a word are marked as stopped."""
    for job in read_ledger(folder):
        if _is_here(job) and not _is_alive(job.process):
            note_job(folder / job.folder, replace(job, state=STOPPED, process=None))
    # A worker that was stopped may have noted its job and not got as far as the ledger.
    write_ledger(folder, read_ledger(folder))


def _is_here(job: Job) -> bool:
    here = job.host == socket.gethostname()
    return job.state == RUNNING and job.process is not None and here


def _is_alive(process: int | None) -> bool:
    assert process is not None
    try:
        # Whoever waits for this process may be interrupted by the very signal that we handle.
        ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is None
    except ChildProcessError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# --- Files -------------------------------------------------------------------------------------


def _parse(entry: dict[str, object]) -> Job:
    known = {item.name for item in fields(Job)}
    return Job(**{name: value for name, value in entry.items() if name in known})  # type: ignore[arg-type]


def _write(path: Path, table: object) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(table, indent=1), encoding="utf-8")
    aside.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

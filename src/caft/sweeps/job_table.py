"""A sweep's job table: which jobs there are and how each one stands.

A job is told by its own folder: by `job.json`, which the process that runs the job writes while it
holds the job's lock, and by what a finished run leaves there, which needs nobody's word. Whoever
is killed thus leaves nothing that has to be mended. `jobs.json` in the sweep's folder is put
together from the jobs' folders, as often as one of them changes, and decides nothing.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

from caft.signals import DONE, OUR_FAULT, USER_MUST_ACT, say
from caft.sweeps.processes import ProcessId, identify, is_alive
from caft.sweeps.run_folders import (
    is_finished,
    is_locked,
    read_json,
    try_lock,
    write_json,
)

WAITING, RUNNING, DONE_STATE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
_WITHOUT_A_WORD = "its process ended without a word; killed, or the machine went down?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One entry. `folder` and `log` are relative to the sweep's; times are ISO, in UTC.

    `overrides` are the words that the job does not share with all others. `superseded`: a file of
    the config has changed since, and the same words now mean another job. `process`, `host` and
    `process_began` tell the process that runs the job, see `ProcessId`.
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
    process_began: str = ""
    host: str | None = None
    superseded: bool = False

    @property
    def runner(self) -> ProcessId | None:
        """The process that runs the job, as far as its entry knows."""
        if self.process is None or self.host is None:
            return None
        return ProcessId(self.host, self.process, self.process_began)


def plan_jobs(folder: Path, jobs: Sequence[Job], question: str | None = None) -> list[Job]:
    """Write the table before anything runs, and return the jobs that are still to be run."""
    folder.mkdir(parents=True, exist_ok=True)
    before = {job.folder: job for job in read_job_table(folder)}
    planned = [_carry_over(folder, job, before.get(job.folder)) for job in jobs]
    names = {job.folder for job in planned}
    words = {frozenset(job.overrides) for job in planned}
    # Jobs of an earlier, wider sweep keep their lines.
    others = [job for name, job in before.items() if name not in names]
    planned += [
        replace(job, number=n, superseded=frozenset(job.overrides) in words)
        for n, job in enumerate(others, start=len(planned))
    ]
    write_job_table(folder, planned, question)
    return [job for job in planned[: len(jobs)] if job.state != DONE_STATE]


def _carry_over(folder: Path, job: Job, before: Job | None) -> Job:
    job = replace(job, log=f"{job.folder}/run.log")
    finished = is_finished(folder / job.folder)
    if before and (finished or before.state == RUNNING):
        # An edit that was taken back makes the old job the planned one again.
        return replace(before, number=job.number, overrides=job.overrides, superseded=False)
    if finished:
        return judge(folder / job.folder, job)
    forget(folder / job.folder)
    return job


def read_job_table(folder: Path) -> list[Job]:
    """Every job that jobs.json knows or that has a job.json, each as its own folder tells it."""
    listed = [job for entry in _read_table(folder)["jobs"] if (job := _parse(entry))]
    known = {job.folder: job for job in listed}
    jobs = [_merge(folder, job) for job in known.values()]
    # A sweeper that searches decides on its jobs as it goes.
    found = [read_job(path.parent) for path in sorted(folder.glob("*/job.json"))]
    new = sorted((job for job in found if job and job.folder not in known), key=_started)
    return jobs + [replace(job, number=n) for n, job in enumerate(new, start=len(jobs))]


def _started(job: Job) -> str:
    return job.started or ""


def _merge(folder: Path, listed: Job) -> Job:
    """The plan's part of an entry from jobs.json, all the rest from the job's folder."""
    plan = Job(
        number=listed.number,
        folder=listed.folder,
        overrides=listed.overrides,
        digest=listed.digest,
        log=listed.log,
        superseded=listed.superseded,
    )
    own = read_job(folder / listed.folder)
    if own is None:
        return judge(folder / listed.folder, plan)
    return replace(
        own,
        number=plan.number,
        overrides=plan.overrides or own.overrides,
        superseded=plan.superseded,
    )


def judge(folder: Path, job: Job) -> Job:
    """The entry as the job's folder proves it, whatever nobody could write down any more."""
    gone = {"process": None, "process_began": ""}
    if is_finished(folder):
        done = {"state": DONE_STATE, "exit_status": DONE, "error": None}
        ended = job.finished or _time_of(folder / "summary.json")
        return replace(job, finished=ended, **done, **gone)  # type: ignore[arg-type]
    if job.state == RUNNING and not _is_run(folder, job):
        error = job.error or _WITHOUT_A_WORD
        return replace(job, state=STOPPED, error=error, **gone)  # type: ignore[arg-type]
    return job


def _is_run(folder: Path, job: Job) -> bool:
    """Whether somebody runs the job; on another host that cannot be known, and is believed."""
    if job.host != socket.gethostname():
        return True
    runner = job.runner
    return (runner is not None and is_alive(runner)) or is_locked(folder)


def write_job_table(folder: Path, jobs: Iterable[Job], question: str | None = None) -> None:
    """jobs.json, whole or not at all. `question` is what the sweep asks, once for all writers."""
    if question is None:
        question = _read_table(folder).get("question", "")
    table = {"sweep": folder.name, "question": question, "jobs": [asdict(job) for job in jobs]}
    write_json(folder / "jobs.json", table)


def _read_table(folder: Path) -> dict[str, Any]:
    table = read_json(folder / "jobs.json")
    if not isinstance(table, dict) or not isinstance(table.get("jobs"), list):
        return {"jobs": []}
    return table


def read_job(folder: Path) -> Job | None:
    """A job's entry from its own folder; None where nobody has run it yet."""
    job = _parse(read_json(folder / "job.json"))
    # The folder's own name: a sweep that was moved or copied is still a sweep.
    return judge(folder, replace(job, folder=folder.name)) if job else None


def note_job(folder: Path, job: Job) -> None:
    """Write a job's own entry, then the table.

    A full disk fails no job for it: what is finished proves itself, and the rest is run again.
    """
    try:
        write_json(folder / "job.json", asdict(job))
        write_job_table(folder.parent, read_job_table(folder.parent))
    except OSError as error:
        say(f"the job table of the sweep {folder.parent} was not written: {error}")


def forget(folder: Path) -> None:
    """Before a job is run again: how it ended the last time is no longer how it stands."""
    (folder / "job.json").unlink(missing_ok=True)


def begin(folder: Path, overrides: Sequence[str], digest: str) -> Job:
    """The entry of a job that this process runs from now on; it holds the job's lock."""
    own = identify(os.getpid())
    job = Job(
        folder=folder.name,
        overrides=list(overrides),
        digest=digest,
        state=RUNNING,
        started=now(),
        log=f"{folder.name}/run.log",
        process=own.pid,
        process_began=own.began,
        host=own.host,
    )
    note_job(folder, job)
    return job


def end(folder: Path, job: Job, status: int, error: str | None) -> Job:
    """The entry of a job whose process ends or ended with `status` (negative: by a signal)."""
    asked_to_stop = status in (-signal.SIGTERM, -signal.SIGINT, 130, 143)
    job = replace(
        job,
        state=DONE_STATE if status == DONE else STOPPED if asked_to_stop else FAILED,
        exit_status=128 - status if status < 0 else status,
        error=error or _name_death(status),
        finished=now(),
        process=None,
        process_began="",
    )
    # A signal may come when all is done.
    job = judge(folder, job)
    note_job(folder, job)
    return job


def conclude(folder: Path, planned: Job, status: int, error: str | None) -> Job:
    """The entry of a job once its starter has seen its process end with `status`.

    The process has written how it ended, unless it was killed; then it is written here. A job
    that another process is running meanwhile is that one's to tell.
    """
    with try_lock(folder) as free:
        # Nobody holds the lock: an entry that says "running" is the dead process's own.
        entry = _parse(read_json(folder / "job.json"))
        told = entry is not None and entry.state not in (WAITING, RUNNING)
        if free and not told and not is_finished(folder):
            end(folder, entry or planned, status, error)
    return read_job(folder) or judge(folder, planned)


def _name_death(status: int) -> str | None:
    if status >= 0:
        return None
    name = signal.Signals(-status).name
    hint = "; out of memory?" if -status == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"


def worst_status(jobs: Sequence[Job]) -> int:
    """1 where a job ended by a fault of ours, else 2 where the user must act, else 0.

    A job that another process is still running leaves the sweep unfinished: the user must wait.
    """
    if all(job.state == DONE_STATE for job in jobs):
        return DONE
    failed = {job.exit_status for job in jobs if job.state in (FAILED, STOPPED)}
    return USER_MUST_ACT if failed <= {USER_MUST_ACT} else OUR_FAULT


def settle(folder: Path) -> None:
    """What the jobs' folders prove is written down, for those who could not do it any more."""
    for path in folder.glob("*/job.json"):
        written, proven = _parse(read_json(path)), read_job(path.parent)
        if proven is None or proven == written:
            continue
        with try_lock(path.parent) as free:
            if free:
                note_job(path.parent, proven)
    write_job_table(folder, read_job_table(folder))


# --- Files -------------------------------------------------------------------------------------


def _parse(entry: object) -> Job | None:
    """An entry as `asdict` made it, by this version or another one; None for anything else.

    What a damaged file has in the place of a value is left out.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("folder"), str):
        return None
    return Job(**{
        name: entry[name]
        for name, kind in _KINDS.items()
        if name in entry and isinstance(entry[name], kind)
    })  # fmt: skip


_KINDS: dict[str, Any] = {**get_type_hints(Job), "overrides": list}


def _time_of(path: Path) -> str:
    return _iso(datetime.fromtimestamp(path.stat().st_mtime, UTC))


def now() -> str:
    """The present second in UTC, as every entry tells its times."""
    return _iso(datetime.now(UTC))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")

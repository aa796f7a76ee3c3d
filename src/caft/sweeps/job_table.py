"""A sweep's job table: which jobs there are, and the state of each one.

A job's own folder decides: its `job.json`, which the process that runs the job writes while it
holds the job's lock, and the files that a finished run leaves there. So after a kill there is
nothing to repair. `jobs.json` in the sweep's folder is a summary, written again from the jobs'
folders whenever one of them changes.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_type_hints

from caft.signals import DONE, OUR_FAULT, USER_MUST_ACT, say
from caft.sums import is_finished, read_json
from caft.sweeps.processes import ProcessId, identify, is_alive
from caft.sweeps.run_folders import changes_nothing, is_locked, try_lock, write_json

WAITING, RUNNING, DONE_STATE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
_NO_REPORT = "its process ended without a result: it was killed, or the machine went down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One entry. `folder` and `log` are relative to the sweep's; times are ISO, in UTC.

    `overrides` are those that the job does not share with all others of its command, `shared` those
    that it does. `superseded`: a file of the config has changed since, and the same overrides now
    mean another job. `process`, `host` and `process_began` are the process that runs the job, see
    `ProcessId`.
    """

    number: int = 0
    folder: str
    overrides: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
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


def plan_jobs(folder: Path, jobs: Sequence[Job], question: str | None = None) -> list[Job]:
    """Write the table before anything runs, and return the jobs that are still to be run."""
    folder.mkdir(parents=True, exist_ok=True)
    before = {job.folder: job for job in read_job_table(folder)}
    planned = [_carry_over(folder, job, before.pop(job.folder, None)) for job in jobs]
    overrides = {_all_overrides(job) for job in planned}
    # Jobs of an earlier, larger sweep keep their lines.
    planned += [
        replace(job, number=n, superseded=_all_overrides(job) in overrides)
        for n, job in enumerate(before.values(), start=len(planned))
    ]
    write_job_table(folder, planned, question)
    return [job for job in planned[: len(jobs)] if job.state != DONE_STATE]


def _all_overrides(job: Job) -> frozenset[str]:
    """Those that say what it is; two commands in one folder may share other ones each."""
    given = (*job.overrides, *job.shared)
    return frozenset(each for each in given if not changes_nothing(each))


def _carry_over(folder: Path, job: Job, before: Job | None) -> Job:
    job = replace(job, log=f"{job.folder}/run.log")
    finished = is_finished(folder / job.folder)
    if before and (finished or before.state == RUNNING):
        # An edit that was taken back makes the old job the planned one again.
        before = replace(before, overrides=job.overrides, shared=job.shared)
        return replace(before, number=job.number, superseded=False)
    if finished:
        return judge(folder / job.folder, job)
    # Its last result is no longer its state.
    (folder / job.folder / "job.json").unlink(missing_ok=True)
    return job


def read_job_table(folder: Path) -> list[Job]:
    """Every job that is in jobs.json or has a job.json, with the state from its own folder."""
    entries, _ = _read_table(folder)
    known = {job.folder: job for entry in entries if (job := _parse(entry))}
    jobs = [_merge(folder, job) for job in known.values()]
    # A sweeper that searches decides on its jobs as it goes.
    unlisted = sorted(at.parent for at in folder.glob("*/job.json") if at.parent.name not in known)
    new = sorted(filter(None, map(read_job, unlisted)), key=lambda job: job.started or "")
    return jobs + [replace(job, number=n) for n, job in enumerate(new, start=len(jobs))]


def _merge(folder: Path, listed: Job) -> Job:
    """The plan's part of an entry from jobs.json, all the rest from the job's folder."""
    job_folder = folder / listed.folder
    plan = Job(folder=listed.folder, digest=listed.digest, log=listed.log)
    own = read_job(job_folder) or judge(job_folder, plan)
    # A job's own entry has all of its overrides.
    overrides = listed.overrides or own.overrides
    return replace(
        own,
        number=listed.number,
        overrides=overrides,
        shared=listed.shared or [each for each in own.overrides if each not in overrides],
        superseded=listed.superseded,
    )


def judge(folder: Path, job: Job) -> Job:
    """The entry as the job's folder proves it, if its process could no longer write it."""
    if job.state == DONE_STATE:  # to prove it again would read all of its tables
        return job
    if is_finished(folder):
        written = datetime.fromtimestamp((folder / "summary.json").stat().st_mtime, UTC)
        job = replace(job, state=DONE_STATE, exit_status=DONE, error=None)
        job = replace(job, finished=job.finished or _iso(written))
    elif job.state == RUNNING and not _is_run(folder, job):
        job = replace(job, state=STOPPED, error=job.error or _NO_REPORT)
    else:
        return job
    return replace(job, process=None, process_began="")


def _is_run(folder: Path, job: Job) -> bool:
    """Whether a process runs the job; on another host that cannot be checked, and is assumed."""
    if job.host != socket.gethostname():
        return True
    runner = ProcessId(job.host, job.process or 0, job.process_began)
    return is_alive(runner) or is_locked(folder)


def write_job_table(folder: Path, jobs: Iterable[Job], question: str | None = None) -> None:
    """Write jobs.json, whole or not at all. `question` is the question of the sweep."""
    if question is None:
        _, question = _read_table(folder)
    table = {"sweep": folder.name, "question": question, "jobs": [asdict(job) for job in jobs]}
    write_json(folder / "jobs.json", table)


def _read_table(folder: Path) -> tuple[list[object], str]:
    """The entries and the question of jobs.json; nothing where it is damaged."""
    table = read_json(folder / "jobs.json")
    if not isinstance(table, dict) or not isinstance(table.get("jobs"), list):
        return [], ""
    return table["jobs"], table.get("question", "")


def read_job(folder: Path) -> Job | None:
    """A job's entry from its own folder; None if it was never run."""
    job = _parse(read_json(folder / "job.json"))
    # The folder's own name: a sweep that was moved or copied is still a sweep.
    return judge(folder, replace(job, folder=folder.name)) if job else None


def note_job(folder: Path, job: Job) -> None:
    """Write a job's own entry, then the table.

    A full disk does not fail the job: finished jobs are recognised by their outputs, and the rest
    runs again.
    """
    try:
        write_json(folder / "job.json", asdict(job))
        write_job_table(folder.parent, read_job_table(folder.parent))
    except OSError as error:
        say(f"the job table of the sweep {folder.parent} was not written: {error}")


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

    The process has written how it ended, unless it was killed; then it is written here. The entry
    of a job that another process is now running is left to that process.
    """
    with try_lock(folder) as free:
        # The lock is free: an entry that is "running" was left by a dead process.
        entry = _parse(read_json(folder / "job.json"))
        ended = entry is not None and entry.state not in (WAITING, RUNNING)
        if free and not ended and not is_finished(folder):
            end(folder, entry or planned, status, error)
    return read_job(folder) or judge(folder, planned)


def _name_death(status: int) -> str | None:
    if status >= 0:
        return None
    name = signal.Signals(-status).name
    hint = "; out of memory?" if -status == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"


def worst_status(jobs: Sequence[Job]) -> int:
    """1 if a job ended by a bug, else 2 if the user must act, else 0.

    A job that another process is still running leaves the sweep unfinished: the user must wait.
    """
    if all(job.state == DONE_STATE for job in jobs):
        return DONE
    failed = {job.exit_status for job in jobs if job.state in (FAILED, STOPPED)}
    return USER_MUST_ACT if failed <= {USER_MUST_ACT} else OUR_FAULT


def settle(folder: Path) -> None:
    """Write down what the jobs' folders prove, for processes that were killed before they could."""
    for path in folder.glob("*/job.json"):
        written, proven = _parse(read_json(path)), read_job(path.parent)
        if proven is None or proven == written:
            continue
        with try_lock(path.parent) as free:
            if free:
                note_job(path.parent, proven)
    write_job_table(folder, read_job_table(folder))


def _parse(entry: object) -> Job | None:
    """An entry as `asdict` made it, by this version or another one; None for anything else.

    Values that do not fit, as in a damaged file, are left out.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("folder"), str):
        return None
    kinds = {**get_type_hints(Job), "overrides": list, "shared": list}
    return Job(**{
        name: entry[name]
        for name, kind in kinds.items()
        if name in entry and isinstance(entry[name], kind)
    })  # fmt: skip


def now() -> str:
    """The current second in UTC, in the format of all entries."""
    return _iso(datetime.now(UTC))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")

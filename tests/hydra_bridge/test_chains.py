"""Whoever is killed, and in whatever order: a job has one truth, and the next command finds it."""

from __future__ import annotations

import itertools
import json
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from caft.sweeps import job_table
from caft.sweeps.job_table import Job
from caft.sweeps.processes import identify
from caft.sweeps.run_folders import job_lock, mark_finished, mark_unfinished

EVENTS = (
    "start", "kill parent", "kill runner", "kill waiting", "finish", "finish unnoted", "fail"
)  # fmt: skip
PLANNED = Job(folder="job", overrides=["seed=1"], digest="d")


@dataclass(eq=False)
class Child:
    """A job's process: a real one, so that it can be seen to live, whose work is done here."""

    folder: Path
    parent: Parent
    process: subprocess.Popen[bytes] = field(
        default_factory=lambda: subprocess.Popen(["sleep", "600"])
    )
    entry: Job | None = None

    def __post_init__(self) -> None:
        self.lock = job_lock(self.folder)

    def begin(self) -> None:
        """It holds the lock now; it ends at once where another one has done the job."""
        self.lock.acquire(timeout=0)
        if job_table.is_finished(self.folder):
            self.end(0)
            return
        mark_unfinished(self.folder)
        noted = job_table.begin(self.folder, PLANNED.overrides, PLANNED.digest)
        own = identify(self.process.pid)
        self.entry = replace(noted, process=own.pid, process_began=own.began)
        job_table.note_job(self.folder, self.entry)

    def write(self, status: int) -> None:
        """What a run does last, and what its process notes of it."""
        assert self.entry is not None
        if status == 0:
            self.finish()
        job_table.end(self.folder, self.entry, status, None if status == 0 else "no rows")

    def finish(self) -> None:
        (self.folder / "summary.json").write_text("{}")
        mark_finished(self.folder)

    def end(self, status: int) -> None:
        self.process.kill()
        self.process.wait()
        self.lock.release()
        self.parent.conclude(status)


@dataclass(eq=False)
class Parent:
    """A sweep's command; `status` once it has ended by itself."""

    folder: Path
    alive: bool = True
    status: int | None = None

    def conclude(self, status: int) -> None:
        if not self.alive:
            return
        job_table.conclude(self.folder / "job", PLANNED, status, None)
        job_table.settle(self.folder)
        self.alive = False
        self.status = job_table.worst_status(job_table.read_job_table(self.folder))


class World:
    """A sweep of one job; commands and processes come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = folder / "job"
        self.job.mkdir(parents=True)
        self.parents: list[Parent] = []
        self.children: list[Child] = []

    def happen(self, event: str) -> bool:
        """Whether there was anybody whom it could happen to."""
        runner = self.children[0] if self.children else None
        if event == "start":
            self.start()
        elif event == "kill parent" and (alive := [p for p in self.parents if p.alive]):
            alive[-1].alive = False
        elif event == "kill waiting" and len(self.children) > 1:
            self.children.pop().end(-9)
        elif event == "kill runner" and runner:
            self.leave(runner, -9)
        elif event == "finish unnoted" and runner:
            # Killed between its last output and its last word.
            runner.finish()
            self.leave(runner, -9)
        elif event in ("finish", "fail") and runner:
            status = 0 if event == "finish" else 2
            runner.write(status)
            self.leave(runner, status)
        else:
            return False
        return True

    def start(self) -> Parent:
        parent = Parent(self.folder)
        self.parents.append(parent)
        if not job_table.plan_jobs(self.folder, [PLANNED]):
            parent.conclude(0)
            return parent
        child = Child(self.job, parent)
        self.children.append(child)
        if self.children[0] is child:
            child.begin()
        return parent

    def leave(self, runner: Child, status: int) -> None:
        """The lock goes to those who wait, one after the other, until one has work to do."""
        self.children.remove(runner)
        runner.end(status)
        while self.children:
            self.children[0].begin()
            if self.children[0].entry is not None:
                return
            self.children.pop(0)

    def run_to_its_end(self) -> Parent:
        while self.children:
            self.happen("finish")
        last = self.start()
        while self.children:
            self.happen("finish")
        return last

    def states(self) -> set[tuple[str, int | None]]:
        """How the job stands, in jobs.json and in job.json as they lie there."""
        (line,) = json.loads((self.folder / "jobs.json").read_text())["jobs"]
        entries = [line]
        if (self.job / "job.json").exists():
            entries.append(json.loads((self.job / "job.json").read_text()))
        return {(entry["state"], entry["exit_status"]) for entry in entries}

    def close(self) -> None:
        for child in self.children:
            child.process.kill()
            child.process.wait()
            child.lock.release()


def walk(folder: Path, chain: tuple[str, ...]) -> tuple[str, ...] | None:
    """The part of `chain` up to an event that could not happen, where there is one."""
    world = World(folder)
    try:
        for number, event in enumerate(("start", *chain)):
            statuses = [parent.status for parent in world.parents]
            if not world.happen(event):
                return chain[:number]
            # A command that ends reports what the job table has at that moment.
            for parent, before in zip(world.parents, statuses, strict=False):
                if before is None and parent.status is not None and not world.children:
                    ((state, status),) = world.states()
                    assert (parent.status == 0) == (state == "done"), (chain, event, state)
                    assert status in (0, 2, 137), (chain, event, status)
        last = world.run_to_its_end()
        assert last.status == 0, chain
        assert world.states() == {("done", 0)}, chain
    finally:
        world.close()
    return None


@pytest.mark.parametrize("first", EVENTS)
@pytest.mark.parametrize("length", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_whatever_happens_the_truth_is_one(tmp_path: Path, first: str, length: int) -> None:
    # Without what cannot happen such a chain is a shorter one, which has a turn of its own.
    idle: set[tuple[str, ...]] = set()
    for rest in itertools.product(EVENTS, repeat=length - 1):
        chain = (first, *rest)
        if not any(chain[: len(known)] == known for known in idle):
            idle |= {walk(tmp_path / "-".join(rest), chain)} - {None}  # type: ignore[arg-type]


def test_a_job_that_is_still_run_leaves_the_sweep_unfinished(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        for event in ("start", "kill parent", "start", "kill waiting"):
            world.happen(event)
        assert world.parents[-1].status == 2
        assert world.states() == {("running", None)}
    finally:
        world.close()


def test_a_job_whose_command_and_process_were_killed_is_stopped(tmp_path: Path) -> None:
    world = World(tmp_path)
    for event in ("start", "kill parent", "kill runner"):
        world.happen(event)
    (job,) = job_table.read_job_table(tmp_path)
    assert (job.state, job.process) == ("stopped", None)
    assert "ended without a result" in (job.error or "")
    assert job_table.worst_status([job]) == 1

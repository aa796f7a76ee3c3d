"""A sweep of three jobs whose command, job or both are killed, and the same command again.

The jobs are forked, too: of `start_child` only the new interpreter is left out.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals
from types import SimpleNamespace
from typing import Any
from unittest import mock

from fake_server import FakeServer

from caft.hydra_bridge import jobs, main, main_job
from caft.pipeline import run_pipeline
from caft.sweeps.processes import identify, is_alive
from same_results import read_figures
from torturing.forks import TEACHER, TINY, Child, fork, time_whole
from torturing.kills import Ending, find_differences, open_server, read_asked
from torturing.tally import Tally
from torturing.watching import Watch

VICTIMS = ("parent", "child", "group")
_OWN = ("written", "seconds", "folder")
"""What a sweep's report says of this sweep alone."""
_SECONDS = 5
"""A process takes a moment to die of SIGKILL."""


class ForkedJob:
    """What `start_child` needs of subprocess.Popen, without a new interpreter."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str], **_: Any) -> None:
        folder = Path(words[-1])
        self._child = fork(lambda: _run_job(folder, env), Path.cwd(), Path("told"))
        self.pid = self._child.pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        if self._status is None:
            self._status = self._child.ended()
        return self._status

    def wait(self) -> int:
        """Its exit status."""
        while self.poll() is None:
            time.sleep(0.005)
        assert self._status is not None
        return self._status

    def terminate(self) -> None:
        """As a sweep that is being stopped does."""
        os.kill(self.pid, signal.SIGTERM)


def _run_job(folder: Path, env: Mapping[str, str]) -> int:
    os.setpgid(0, 0)
    os.environ.update(env)
    return main_job(run_pipeline, folder)


@dataclass(frozen=True)
class Sweep:
    """Three jobs with one store and one ledger, one after the other."""

    folder: Path
    server: FakeServer

    def start(self) -> Child:
        """The command, in a session that its jobs share."""
        words = [*TINY, *TEACHER, f"teacher.base_url={self.server.base_url}", "-m", "seed=1,2,3",
                 "method=distill", "method.epochs.alone=1", f"store.path={self.folder}/store",
                 "hydra.sweep.dir=sweep"]  # fmt: skip

        def work() -> int:
            os.setsid()
            forked = SimpleNamespace(Popen=ForkedJob, DEVNULL=None, STDOUT=None)
            with mock.patch.object(jobs, "subprocess", forked):
                return main(run_pipeline, words)

        return fork(work, self.folder, self.folder / "told")

    def outs(self) -> dict[str, Path]:
        """Folders of finished jobs, by their seed; the rest of a name has the server's port."""
        marks = self.folder.glob("sweep/*/summary.json")
        return {path.parent.name.split("-")[0]: path.parent for path in marks}

    def finished(self) -> dict[Path, int]:
        """Results of jobs and of stages that are there, with the time of each."""
        files = [*self.folder.glob("store/[!.]*/[!.]*/manifest.json")]
        files += [folder / "summary.json" for folder in self.outs().values()]
        return {path: path.stat().st_mtime_ns for path in files}

    def report(self) -> dict[str, Any]:
        """The figures of the sweep's report."""
        figures = read_figures(self.folder / "sweep/summary.json")
        return {key: value for key, value in figures.items() if key.split("/")[-1] not in _OWN}


def list_session(leader: int) -> list[int]:
    """Processes that `leader` started and those that these started, while they run."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                mine = os.getsid(int(name)) == leader
            except ProcessLookupError:
                continue
            found += [int(name)] if mine and is_alive(identify(int(name))) else []
    return found


def kill_sweep(child: Child, victim: str, ending: Ending) -> bool:
    """After so many seconds; a job is waited for. False if the sweep ended before."""
    end = time.monotonic() + ending[1]
    while True:
        if child.ended() is not None:
            return False
        workers = [pid for pid in list_session(child.pid) if pid != child.pid]
        if time.monotonic() > end and (workers or victim == "parent"):
            break
        time.sleep(0.005)
    for pid in {"parent": [child.pid], "child": workers, "group": [child.pid, *workers]}[victim]:
        os.kill(pid, ending[0])
    return True


def torture_sweeps(tally: Tally, endings: Sequence[Signals], work: Path) -> None:
    """Kill each of `VICTIMS` in turn by each of `endings`, at seeded moments."""
    work.mkdir(parents=True, exist_ok=True)
    with open_server(0) as server:
        whole = Sweep(work / "whole", server)
        whole.folder.mkdir()
        seconds = time_whole(whole.start)
    for number, ending in enumerate(endings):
        moment = seconds * random.Random(f"sweep/{number}").random()
        while not _kill_once(tally, work / str(number), number, (ending, moment), whole):
            moment /= 2
        shutil.rmtree(work / str(number))


def _kill_once(tally: Tally, folder: Path, number: int, ending: Ending, whole: Sweep) -> bool:
    victim = VICTIMS[number % len(VICTIMS)]
    part = f"kills, sweep's {victim}"
    name = f"{number}, {ending[0].name} after {ending[1]:.2f} s"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with open_server(number) as server:
        sweep = Sweep(folder, server)
        child = sweep.start()
        if not kill_sweep(child, victim, ending):
            return False
        status = child.wait()
        watch = Watch(tally, part, name, server)
        watch.see_status(child, status, ending[0], also=(1,) if victim == "child" else ())
        # A command that is killed alone leaves its job running, and the next one waits for it.
        alone = victim == "parent" and ending[0] is SIGKILL
        if not alone:
            _see_nothing_runs(tally, part, name, child)
            watch.see_arrived(lambda: read_asked(folder / "store/ledger.sqlite"), ending[0])
        finished = sweep.finished()
        _see_whole_files(tally, part, name, folder)
        again = sweep.start()
        if status := again.wait():
            tally.fail(part, "lost", f"{name}: then {status}: {again.last_line()}")
            return True
        for each in (child, again):
            _see_nothing_runs(tally, part, name, each)
        watch.see_bought_once()
        if alone and (more := server.bought().total() - len(server.bought())):
            tally.fail(part, "bought_twice_after_arrival", f"{name}: {more}, by a job left alone")
    now = sweep.finished()
    if made_again := [path for path, at in finished.items() if now.get(path) != at]:
        tally.fail(part, "lost", f"{name}: made again: {made_again}")
    _compare(tally, part, name, whole, sweep)
    return True


def _see_nothing_runs(tally: Tally, part: str, name: str, child: Child) -> None:
    end = time.monotonic() + _SECONDS
    while (left := list_session(child.pid)) and time.monotonic() < end:
        time.sleep(0.01)
    if left:
        tally.fail(part, "orphans", f"{name}: {len(left)} processes still run")
        for pid in left:
            os.kill(pid, SIGKILL)


def _see_whole_files(tally: Tally, part: str, name: str, folder: Path) -> None:
    """A report or a table that is there is whole."""
    for path in folder.glob("sweep/**/*.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            tally.fail(part, "partial", f"{name}: {path.relative_to(folder)}: {error}")


def _compare(tally: Tally, part: str, name: str, whole: Sweep, sweep: Sweep) -> None:
    before, now = whole.outs(), sweep.outs()
    found = [f"the jobs are {sorted(now)}"] if before.keys() != now.keys() else []
    for job in before.keys() & now.keys():
        found += [f"{job}: {line}" for line in find_differences(before[job], now[job])]
    one, two = whole.report(), sweep.report()
    found += [f"report: {key}: {one.get(key)!r}, {two.get(key)!r}"
              for key in one.keys() | two.keys() if one.get(key) != two.get(key)]  # fmt: skip
    if found:
        tally.fail(part, "different", f"{name}: {found[0]} ({len(found)} in all)")

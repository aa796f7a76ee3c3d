"""A sweep of three jobs whose command, job or whole group is killed, and the same command again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL

from caft.sweeps.processes import identify, is_alive
from torturing.forks import TEACHER, TINY
from torturing.kills import find_differences, open_server, read_asked
from torturing.tally import Tally
from torturing.watching import Watch

TRAIN = Path(__file__).parents[2] / "train.py"
VICTIMS = ("parent", "child", "group")
_SECONDS = 600


class Sweep:
    """Three jobs one after the other, in processes of their own."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.words = [*TINY, *TEACHER, f"teacher.base_url={url}", "store.path=store", "-m",
                      "method=distill,sft,curriculum",
                      "hydra.sweep.dir=sweep"]  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        """The command, in a group of its own."""
        with (self.folder / "told").open("ab") as told:
            return subprocess.Popen(
                [sys.executable, str(TRAIN), *self.words],
                cwd=self.folder, stdout=told, stderr=told, process_group=0,
            )  # fmt: skip

    def children(self) -> list[int]:
        """Processes of jobs that are alive."""
        notes = list(self.folder.glob("sweep/*/.hydra/process-*.json"))
        pids = [json.loads(note.read_text())["child"]["pid"] for note in notes]
        return [pid for pid in pids if is_alive(identify(pid))]

    def jobs(self) -> dict[str, Path]:
        """Folders of finished jobs, by their overrides."""
        table = json.loads((self.folder / "sweep/jobs.json").read_text())["jobs"]
        done = [job for job in table if job["state"] == "done"]
        return {" ".join(job["overrides"]): self.folder / "sweep" / job["folder"] for job in done}

    def kill(self, process: subprocess.Popen[bytes], victim: str) -> None:
        """The command alone, its job alone, or all."""
        pids = [] if victim == "child" else [process.pid]
        pids += [] if victim == "parent" else self.children()
        for pid in pids:
            os.kill(pid, SIGKILL)
        process.wait(_SECONDS)
        end = time.monotonic() + _SECONDS
        while self.children() and time.monotonic() < end:
            time.sleep(0.1)


def torture_sweep(tally: Tally, kills: int, work: Path) -> None:
    """Kill each of `VICTIMS` in turn, at a seeded moment after the first job has begun."""
    with open_server(0) as server:
        whole = Sweep(work / "whole", server.base_url)
        began = time.monotonic()
        assert whole.start().wait(_SECONDS) == 0, (whole.folder / "told").read_text()[-500:]
        seconds = time.monotonic() - began
    for number in range(kills):
        moment = seconds * random.Random(f"sweep/{number}").uniform(0.05, 0.95)
        _kill_once(tally, work / str(number), VICTIMS[number % 3], moment, whole)


def _kill_once(tally: Tally, folder: Path, victim: str, moment: float, whole: Sweep) -> None:
    part, name = "kills, sweep", f"{folder.name}, {victim} after {moment:.2f} s"
    with open_server(0) as server:
        sweep = Sweep(folder, server.base_url)
        process = sweep.start()
        time.sleep(moment)
        sweep.kill(process, victim)
        watch = Watch(tally, part, name, server)
        tally.add(part, "kills")
        watch.see_arrived(lambda: read_asked(folder / "store/ledger.sqlite"), SIGKILL)
        if status := sweep.start().wait(_SECONDS):
            said = (folder / "told").read_text()[-300:]
            tally.fail(part, "lost", f"{name}: ended with {status}: {said}")
            return
        watch.see_bought_once()
    jobs = sweep.jobs()
    if jobs.keys() != whole.jobs().keys():
        tally.fail(part, "lost", f"{name}: the finished jobs are {sorted(jobs)}")
        return
    for job, made in whole.jobs().items():
        for line in find_differences(made, jobs[job]):
            tally.fail(part, "different", f"{name}: {job}: {line}")
            break

"""Sweeps whose command, job or waiting process is killed, and the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from caft.sweeps.processes import identify, is_alive
from caft.sweeps.stopping import noted_child, saved_before_requeue

SCRIPT = Path(__file__).parent / "sweep_jobs.py"
WORDS = ("-m", "seed=1,13", "hydra.sweep.dir=sweep")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


class Chain:
    """One sweep of two jobs, the second of which ends when `go` is made; started ever again."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.here = folder
        self.words = words
        self.started: list[subprocess.Popen[str]] = []

    def start(self, **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *WORDS, *self.words],
            cwd=self.here,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **more,
        )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def jobs(self) -> list[dict[str, Any]]:
        return json.loads((self.here / "sweep" / "jobs.json").read_text())["jobs"]

    def runner(self) -> int | None:
        """The process that runs the second job; None while there is none."""
        for file in self.here.glob("sweep/seed=13-*/job.json"):
            entry = json.loads(file.read_text())
            return entry["process"] if entry["state"] == "running" else None
        return None

    def children(self) -> list[int]:
        """Processes of the second job, whoever runs it and whoever waits."""
        notes = self.here.glob("sweep/seed=13-*/.hydra/process-*.json")
        pids = [json.loads(note.read_text())["child"]["pid"] for note in notes]
        return [pid for pid in pids if is_alive(identify(pid))]

    def waiting(self) -> int | None:
        """The process that waits for the one that runs the second job; None until it says so."""
        logs = [file.read_text() for file in self.here.glob("sweep/*/console.log")]
        if not any("waiting for it" in log for log in logs):
            return None
        return next((pid for pid in self.children() if pid != self.runner()), None)

    def states(self) -> list[tuple[str, int | None]]:
        """Of both jobs as jobs.json has them, checked against each job's own entry."""
        for job in self.jobs():
            own = json.loads((self.here / "sweep" / job["folder"] / "job.json").read_text())
            assert (own["state"], own["exit_status"]) == (job["state"], job["exit_status"])
        return [(job["state"], job["exit_status"]) for job in self.jobs()]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    # Side by side, so that what a job's process prints lies in a file.
    made = Chain(tmp_path, *JOBLIB)
    yield made
    (tmp_path / "go").touch()
    for process in made.started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=120)
    until(lambda: not made.children())


def until(ask: Callable[[], Any]) -> Any:
    end = time.monotonic() + 300
    while not (answer := ask()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return answer


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def finish(chain: Chain) -> None:
    """The second job ends, whoever runs it; the same command twice more agrees that all is done."""
    (chain.here / "go").touch()
    until(lambda: not chain.children())
    for _ in range(2):
        assert chain.end(chain.start())[0] == 0
        assert chain.states() == [("done", 0)] * 2


@pytest.mark.slow
def test_the_command_is_killed_and_its_job_finishes(chain: Chain) -> None:
    first = chain.start()
    until(chain.runner)
    kill(first)
    finish(chain)


@pytest.mark.slow
def test_the_workers_of_a_killed_command_end_once_their_jobs_have(chain: Chain) -> None:
    first = chain.start()
    until(chain.runner)
    below = psutil.Process(first.pid).children(recursive=True)
    workers = [each for each in below if "loky" in " ".join(each.cmdline())]
    assert len(workers) >= 2
    kill(first)
    assert chain.runner()
    (chain.here / "go").touch()
    until(lambda: not any(is_alive(identify(each.pid)) for each in workers))
    finish(chain)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_a_job_once(chain: Chain) -> None:
    first = chain.start(process_group=0)
    until(chain.runner)
    # As a terminal does: the command and its workers have it at the same moment.
    os.killpg(first.pid, signal.SIGINT)
    status, output = chain.end(first)
    assert (status, chain.states()[1]) == (130, ("stopped", 130)), output
    finish(chain)


@pytest.mark.slow
def test_a_waiting_process_is_killed(chain: Chain) -> None:
    first = chain.start()
    runner = until(chain.runner)
    kill(first)
    second = chain.start()
    os.kill(until(chain.waiting), signal.SIGKILL)
    status, output = chain.end(second)
    assert (status, chain.states()[1]) == (2, ("running", None)), output
    assert "1 of 2 jobs of this sweep: still run by other processes" in output
    assert chain.runner() == runner
    finish(chain)


@pytest.mark.slow
def test_the_running_process_is_killed_while_another_one_waits(chain: Chain) -> None:
    first = chain.start()
    runner = until(chain.runner)
    kill(first)
    second = chain.start()
    waiting = until(chain.waiting)
    os.kill(runner, signal.SIGKILL)
    until(lambda: chain.runner() == waiting)
    (chain.here / "go").touch()
    status, output = chain.end(second)
    assert (status, chain.states()) == (0, [("done", 0)] * 2), output
    finish(chain)


@pytest.mark.slow
def test_command_and_process_are_killed(chain: Chain) -> None:
    first = chain.start()
    runner = until(chain.runner)
    kill(first)
    os.kill(runner, signal.SIGKILL)
    until(lambda: not chain.children())
    finish(chain)


@pytest.mark.slow
def test_a_job_has_ended_before_a_cluster_puts_it_back_into_its_queue(tmp_path: Path) -> None:
    """submitit does so at Slurm's warning, and Slurm then kills what still runs."""
    seen = []
    saves = "import signal as s; s.signal(s.SIGTERM, lambda *_: exit(0)); print(flush=True)"
    command = [sys.executable, "-c", f"{saves}; s.pause()"]

    def requeue(_number: int, _frame: object) -> None:
        seen.append(child.poll())

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        with subprocess.Popen(command, process_group=0, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            with noted_child(tmp_path, child.pid), saved_before_requeue(tmp_path, 60.0):
                os.kill(os.getpid(), signal.SIGUSR2)
        assert seen == [0]
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_stops_what_a_killed_command_left_behind(chain: Chain) -> None:
    first = chain.start()
    runner = until(chain.runner)
    kill(first)
    second = chain.start()
    until(chain.waiting)
    second.send_signal(signal.SIGINT)
    status, output = chain.end(second)
    assert (status, chain.states()[1][0]) == (130, "stopped"), output
    assert not is_alive(identify(runner))
    finish(chain)


@pytest.mark.slow
def test_a_signal_spares_the_job_of_a_command_that_lives(chain: Chain) -> None:
    first = chain.start()
    runner = until(chain.runner)
    second = chain.start()
    until(chain.waiting)
    second.send_signal(signal.SIGINT)
    assert chain.end(second)[0] == 130
    assert chain.runner() == runner
    (chain.here / "go").touch()
    status, output = chain.end(first)
    assert (status, chain.states()) == (0, [("done", 0)] * 2), output

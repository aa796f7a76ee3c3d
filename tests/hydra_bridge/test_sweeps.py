"""Sweeps as processes: a process a job, a job table, what is missing and nothing else, signals."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import open_dict

from caft.hydra_bridge import main, main_job
from caft.hydra_bridge.composing import compose_overrides, start_hydra, without_hydra
from caft.hydra_bridge.jobs import run_job, start_child
from caft.hydra_bridge.sweep import write_report
from caft.sweeps import job_table
from caft.sweeps.processes import identify

sys.path.insert(0, str(Path(__file__).parent))

from sweep_jobs import run

SCRIPT = Path(__file__).parent / "sweep_jobs.py"
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@dataclass(frozen=True)
class Swept:
    """A sweep that has ended, in the folder `sweep`."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """The job table's entries by the job's own overrides."""
        table = json.loads((self.folder / "jobs.json").read_text())
        return {",".join(job["overrides"]): job for job in table["jobs"]}

    @property
    def states(self) -> dict[str, str]:
        return {words: job["state"] for words, job in self.jobs.items()}

    def seen(self, words: str) -> list[dict[str, Any]]:
        """What the processes of one job noted, one entry a start."""
        lines = (self.folder / self.jobs[words]["folder"] / "seen.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def sweep(folder: Path, *words: str, **more: Any) -> Swept:
    command = [sys.executable, str(SCRIPT), "-m", *words, "hydra.sweep.dir=sweep"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **more)
    return Swept(done.returncode, done.stdout, done.stderr, folder / "sweep")


@pytest.fixture
def sweep_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Swept]]:
    """A sweep and its jobs in this process, where what counts is which of them run."""
    root, outcome = logging.getLogger(), logging.getLogger("caft.outcome")
    before = (root.handlers[:], root.level, outcome.handlers[:], outcome.propagate)

    def start(folder: Path, **_: Any) -> int:
        return main_job(run, folder)

    def run_here(*words: str) -> Swept:
        monkeypatch.chdir(tmp_path)
        status = main(run, ["-m", *words, "hydra.sweep.dir=sweep"], start=start)
        output = capsys.readouterr()
        return Swept(status, output.out, output.err, tmp_path / "sweep")

    yield run_here
    for handler in {*root.handlers, *outcome.handlers} - {*before[0], *before[2]}:
        handler.close()
    root.handlers[:], outcome.handlers[:] = before[0], before[2]
    root.setLevel(before[1])
    outcome.propagate = before[3]


def test_the_same_command_runs_what_is_missing_and_nothing_else(
    tmp_path: Path, sweep_here: Callable[..., Swept]
) -> None:
    first = sweep_here("seed=1,7,2")
    assert first.status == 2
    assert first.states == {"seed=1": "done", "seed=7": "failed", "seed=2": "done"}
    failed = first.jobs["seed=7"]
    assert (failed["exit_status"], failed["error"]) == (2, "the file rows.jsonl has no rows")
    assert "no rows" in (first.folder / failed["log"]).read_text()
    finished = first.folder / first.jobs["seed=1"]["folder"]
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}

    (tmp_path / "mended").touch()
    second = sweep_here("seed=1,7,2")
    assert second.status == 0, second.err
    assert set(second.states.values()) == {"done"}
    assert "3 jobs, 2 of them finished before" in second.out
    assert [len(second.seen(f"seed={seed}")) for seed in (1, 7, 2)] == [1, 2, 1]
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    # The second start of a job is the same job to every logger.
    assert len({entry["run_id"] for entry in second.seen("seed=7")}) == 1

    third = sweep_here("seed=1,7,2")
    assert (third.status, "started" in third.out) == (0, False)


def test_numbers_alone_do_not_make_a_job_finished(
    tmp_path: Path, sweep_here: Callable[..., Swept]
) -> None:
    # A job whose page failed (11), and one that was stopped after its summary (12).
    first = sweep_here("seed=1,11,12")
    assert first.status == 1
    assert first.states == {"seed=1": "done", "seed=11": "failed", "seed=12": "stopped"}
    summaries = {
        seed: first.folder / first.jobs[f"seed={seed}"]["folder"] / "summary.json"
        for seed in (1, 11, 12)
    }
    assert all(path.exists() for path in summaries.values())

    (tmp_path / "mended").touch()
    second = sweep_here("seed=1,11,12")
    assert (second.status, set(second.states.values())) == (0, {"done"})
    assert [len(second.seen(f"seed={seed}")) for seed in summaries] == [1, 2, 2]

    # What a full disk leaves.
    summaries[1].write_text("")
    third = sweep_here("seed=1,11,12")
    assert [len(third.seen(f"seed={seed}")) for seed in summaries] == [2, 2, 2]


def set_rate(folder: Path, rate: float) -> None:
    """Writes a config of one's own, tuning=mine."""
    file = folder / "caft" / "tuning" / "mine.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"defaults: [lora, _self_]\nlearning_rate: {rate}\n")


def test_a_changed_config_is_a_new_job(tmp_path: Path, sweep_here: Callable[..., Swept]) -> None:
    set_rate(tmp_path, 5e-4)
    sweep_here("seed=1,2", "tuning=mine")
    set_rate(tmp_path, 1e-4)
    changed = sweep_here("seed=1,2", "tuning=mine")
    assert changed.status == 0
    rates = [
        json.loads(path.read_text())["lr"] for path in changed.folder.glob("seed*/summary.json")
    ]
    assert sorted(rates) == [1e-4, 1e-4, 5e-4, 5e-4]
    assert superseded(changed) == {5e-4: True, 1e-4: False}
    # What changes no result makes no other job.
    same = sweep_here("seed=1,2", "tuning=mine", "store.path=elsewhere", "trainer.progress=false")
    assert "started" not in same.out
    # The old config again: its jobs are the present ones, and stay so when a job notes itself.
    set_rate(tmp_path, 5e-4)
    again = sweep_here("seed=1,2", "tuning=mine")
    assert "started" not in again.out
    assert superseded(again) == {5e-4: False, 1e-4: True}
    job_table.write_job_table(again.folder, job_table.read_job_table(again.folder))
    assert superseded(again) == {5e-4: False, 1e-4: True}


def test_the_jobs_of_another_command_in_the_folder_are_not_superseded(
    sweep_here: Callable[..., Swept],
) -> None:
    """Its jobs shared other overrides, so that no file of the config has changed."""
    sweep_here("seed=1,2")
    other = sweep_here("seed=1,2", "tuning.learning_rate=1e-4")
    assert superseded(other) == {5e-4: False, 1e-4: False}
    again = sweep_here("seed=1,2")
    assert superseded(again) == {5e-4: False, 1e-4: False}
    assert "started" not in again.out


def superseded(swept: Swept) -> dict[float, bool]:
    """By learning rate, whether its jobs, seeds 1 and 2, are marked in the job_table."""
    marks: dict[float, set[bool]] = {}
    for job in json.loads((swept.folder / "jobs.json").read_text())["jobs"]:
        summary = json.loads((swept.folder / job["folder"] / "summary.json").read_text())
        marks.setdefault(summary["lr"], set()).add(job["superseded"])
    assert all(len(same) == 1 for same in marks.values())
    return {rate: same.pop() for rate, same in marks.items()}


def test_a_failed_job_of_a_changed_config_is_no_longer_missing(
    tmp_path: Path, sweep_here: Callable[..., Swept]
) -> None:
    set_rate(tmp_path, 5e-4)
    assert sweep_here("seed=1,7", "tuning=mine").status == 2
    (tmp_path / "mended").touch()
    set_rate(tmp_path, 1e-4)
    changed = sweep_here("seed=1,7", "tuning=mine")
    assert changed.status == 0
    found = [(job.superseded, job.state) for job in job_table.read_job_table(changed.folder)]
    assert found == [(False, "done"), (False, "done"), (True, "done"), (True, "failed")]


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    return sweep(tmp_path_factory.mktemp("basic"), "seed=5,3,4,1")


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    # A worker composes the job once more, and must know what a case is.
    cases = 'hydra.sweeper.cases=[["seed=8"],["seed=9"],["seed=10"]]'
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
    return sweep(tmp_path_factory.mktemp("joblib"), cases, *JOBLIB, env=env)


def test_every_job_has_a_process_of_its_own_whatever_the_launcher(
    one_by_one: Swept, side_by_side: Swept
) -> None:
    assert side_by_side.status == 0, side_by_side.err
    for done, seeds in ((one_by_one, (5, 3, 4, 1)), (side_by_side, (8, 9, 10))):
        starts = [done.seen(f"seed={seed}") for seed in seeds]
        assert [len(entries) for entries in starts] == [1] * len(seeds)
        assert len({entries[0]["pid"] for entries in starts}) == len(seeds)
        # Started from its frozen config, not from the sweep's words.
        assert all(entries[0]["argv"][1] == "--job" for entries in starts)
    console = side_by_side.folder / side_by_side.jobs["seed=8"]["folder"] / "console.log"
    assert console.read_text() == "started 8\n"


def test_a_job_that_is_killed_is_told_from_one_that_fails(one_by_one: Swept) -> None:
    done = one_by_one
    assert done.status == 1
    assert done.states == {f"seed={seed}": "failed" for seed in (5, 3, 4)} | {"seed=1": "done"}
    assert "ended by SIGKILL; out of memory?" in done.jobs["seed=5"]["error"]
    assert "started 1" in done.out
    lines = done.err.splitlines()
    assert "ended by SIGKILL" in lines[0]
    assert re.fullmatch(r"job seed=3-\w{8}: the file rows.jsonl has no rows", lines[1])
    assert re.match(r"job seed=4-\w{8}: a bug in CAFT: KeyError", lines[2])
    assert lines[3].startswith("3 of 4 jobs of this sweep failed")


def test_jobs_side_by_side_have_devices_of_their_own(side_by_side: Swept) -> None:
    seen = [side_by_side.seen(f"seed={seed}")[0]["devices"] for seed in (8, 9, 10)]
    assert set(seen) <= {"GPU-a", "GPU-b"}


def test_a_report_that_cannot_be_written_fails_no_sweep(
    sweep_here: Callable[..., Swept], capsys: pytest.CaptureFixture[str]
) -> None:
    done = sweep_here("seed=1")
    assert done.status == 0
    # While the jobs ran, somebody put a folder in its place.
    (done.folder / "report.html").unlink(missing_ok=True)
    (done.folder / "report.html").mkdir()
    write_report(done.folder)
    assert capsys.readouterr().err.startswith("the sweep's report was not written: ")
    # Before they run, it is refused at once.
    again = sweep_here("seed=1")
    assert again.status == 2
    assert "report.html is not a file, and a run writes one of that name" in again.err


def test_a_search_without_any_value_says_so_in_one_line(
    sweep_here: Callable[..., Swept],
) -> None:
    done = sweep_here("multirun_sweeps=tune_lr", "hydra.sweeper.n_trials=1", "seed=3")
    assert done.status == 2
    assert "the search ended early: no job has a value (" in done.err
    assert "Traceback" not in done.err
    assert "1 of 1 job of this sweep failed" in done.err


def test_a_sweep_says_how_to_look_at_runs_that_are_kept_elsewhere(
    sweep_here: Callable[..., Swept],
) -> None:
    done = sweep_here("seed=1,2", "logger=mlflow", "logger.tracking_uri=http://localhost:5000")
    assert done.out.count("sweep's runs: ") == 1
    assert "http://localhost:5000" in done.out


def is_under_way(folder: Path, words: str) -> bool:
    """Whether the job has noted itself, and whoever started it has noted its process."""
    return any(file.read_text() for file in folder.glob(f"{words}-*/seen.jsonl")) and any(
        json.loads(file.read_text())["process"] for file in folder.glob(f"{words}-*/job.json")
    )


def leave_entry(folder: Path, pid: int) -> None:
    """A job as it was running when the machine went down, by this version and by earlier ones."""
    stale = replace(identify(pid), began="another-boot")
    (folder / ".hydra").mkdir(parents=True)
    note = {"child": asdict(stale), "command": asdict(stale)}
    (folder / ".hydra" / f"process-{pid}.json").write_text(json.dumps(note))
    entry = {"folder": folder.name, "overrides": ["seed=0"], "state": "running", "process": pid}
    (folder / "job.json").write_text(json.dumps({**entry, "host": stale.host}))


@pytest.mark.parametrize(
    ("number", "status", "launcher"),
    [
        pytest.param(signal.SIGTERM, 143, JOBLIB, id="terminated-joblib"),
        pytest.param(signal.SIGINT, 130, (), id="interrupted-basic"),
        pytest.param(signal.SIGTERM, 143, (), id="terminated-basic", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, JOBLIB, id="interrupted-joblib", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_every_job_and_the_same_command_goes_on(
    tmp_path: Path,
    launcher: tuple[str, ...],
    number: signal.Signals,
    status: int,
    request: pytest.FixtureRequest,
) -> None:
    words = ["-m", "seed=1,6,13,2", "hydra.sweep.dir=sweep", *launcher]
    command = [sys.executable, str(SCRIPT), *words]
    # Before a reboot its number was a job's, and neither sweep nor system took the entry away.
    stranger = subprocess.Popen(["sleep", "600"], process_group=0)
    request.addfinalizer(stranger.kill)
    leave_entry(tmp_path / "sweep" / "seed=0-stale", stranger.pid)
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not is_under_way(tmp_path / "sweep", "seed=6"):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == status
    *others, last = errors.splitlines()
    assert last.startswith(f"stopped by {number.name}")
    # These jobs' summaries are no run's.
    assert all(line.startswith("the sweep's report was not written: ") for line in others)
    # Two at once are the sixth and the thirteenth, and neither ends by itself.
    assert not [*(tmp_path / "sweep").glob("seed=2-*/seen.jsonl")]
    ended = Swept(status, "", errors, tmp_path / "sweep")
    assert ended.states["seed=6"] == "stopped"
    assert stranger.poll() is None
    assert ended.states["seed=0"] == "stopped"
    (seen,) = ended.seen("seed=6")
    assert not Path(f"/proc/{seen['pid']}").exists()


@pytest.mark.slow
def test_submitit_runs_jobs_on_this_machine(tmp_path: Path) -> None:
    done = sweep(tmp_path, "seed=1,3", "hydra/launcher=submitit_local")
    assert done.status == 2, done.err
    assert done.states == {"seed=1": "done", "seed=3": "failed"}
    assert sweep(tmp_path, "seed=1", "hydra/launcher=submitit_local").status == 0


def test_a_process_of_a_finished_job_waits_for_no_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a job on several nodes that a resumed sweep gives to Slurm again."""
    accuracy = {"best_mode": {"tuned": "answer"}, "validation": {"tuned": {"answer": 0.5}}}
    (tmp_path / "summary.json").write_text(json.dumps({"accuracy": accuracy}))
    launched = {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "GROUP_WORLD_SIZE": 2}
    for name, value in {**launched, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    hydra = start_hydra(get_args_parser().parse_args([]))
    try:
        composed = compose_overrides(hydra, "config", ["model=tiny"], RunMode.RUN)
        with open_dict(composed):
            composed.hydra.runtime.output_dir = str(tmp_path)
        HydraConfig.instance().set_config(composed)
        assert run_job(start_child, without_hydra(composed)) == 0.5
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None

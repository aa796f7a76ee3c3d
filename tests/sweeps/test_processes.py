"""A number on disk is no process: strangers that have it now are neither awaited nor signalled."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from caft.sweeps.job_table import Job, note_job, read_job
from caft.sweeps.processes import ProcessId, identify, is_alive, parse_process, signal_group
from caft.sweeps.run_folders import write_json
from caft.sweeps.stopping import noted_child, stop_jobs


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own, as jobs do."""
    process = subprocess.Popen(["sleep", "600"], process_group=0)
    yield process
    process.kill()
    process.wait()


def of_another_time(process: ProcessId) -> list[ProcessId]:
    """The same number, before a reboot, on another host, and as earlier versions noted it."""
    boot, space, ticks = process.began.split(":")
    return [
        replace(process, began=f"another-boot:{space}:{ticks}"),
        replace(process, began=f"{boot}:{space}:{int(ticks) - 1}"),
        replace(process, host=f"not-{process.host}"),
        replace(process, began=""),
    ]


def note_stranger(folder: Path, stranger: ProcessId) -> None:
    """What a killed sweep may have left behind: the number is somebody else's by now."""
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True, exist_ok=True)
    gone = replace(stranger, began="another-boot")
    note = {"child": asdict(stranger), "command": asdict(gone)}
    write_json(hydra / f"process-{stranger.pid}.json", note)
    job = Job(
        folder=folder.name,
        state="running",
        process=stranger.pid,
        process_began=stranger.began,
        host=stranger.host,
    )
    write_json(folder / "job.json", asdict(job))


def test_a_process_is_known_until_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert is_alive(process)
    assert identify(sleeper.pid) == process == parse_process(asdict(process))
    assert not any(is_alive(other) for other in of_another_time(process))
    sleeper.kill()
    while os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT) is None:
        pass
    # Not yet reaped: whoever waits for it may be the one who asks.
    assert not is_alive(process)
    sleeper.wait()
    assert not is_alive(process)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        [],
        {},
        {"host": "h", "pid": "7", "began": "x"},
        *({"host": "h", "pid": pid, "began": "x"} for pid in (-1, 0, 1, True)),
    ],
)
def test_what_is_no_process_is_none(entry: object) -> None:
    # Numbers of 0 and below are whole groups, or everybody, to a signal; 1 is the system's.
    assert parse_process(entry) is None


def test_a_stranger_is_not_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    for other in of_another_time(process):
        signal_group(other, signal.SIGKILL)
    assert sleeper.poll() is None
    signal_group(process, signal.SIGTERM)
    assert sleeper.wait(timeout=60) == -signal.SIGTERM


def test_this_process_never_signals_itself() -> None:
    signal_group(identify(os.getpid()), signal.SIGKILL)


def test_a_process_that_leads_no_group_is_signalled_alone() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        # Its group is this test's own.
        signal_group(identify(process.pid), signal.SIGTERM)
        assert process.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.timeout(60)
def test_stopping_spares_strangers_and_what_another_command_runs(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    process = identify(sleeper.pid)
    for number, stranger in enumerate(of_another_time(process)):
        note_stranger(tmp_path / f"job{number}", stranger)
    with subprocess.Popen(["sleep", "600"]) as command:
        own = tmp_path / "another" / ".hydra" / f"process-{sleeper.pid}.json"
        own.parent.mkdir(parents=True)
        write_json(own, {"child": asdict(process), "command": asdict(identify(command.pid))})
        stop_jobs(tmp_path, signal.SIGKILL)
        assert sleeper.poll() is None
        command.kill()
    # Left behind by a command that was killed: the next one of this sweep stops it.
    stop_jobs(tmp_path, signal.SIGTERM)
    assert sleeper.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.timeout(60)
def test_stopping_ends_this_commands_children(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], process_group=0) as child:
        with noted_child(tmp_path / "job", child.pid):
            stop_jobs(tmp_path, signal.SIGTERM)
            assert child.poll() == -signal.SIGTERM
        assert not list(tmp_path.glob("job/.hydra/process-*"))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", '{"folder": 3}', '"x"', '{"state": "running"}']
)
def test_a_damaged_entry_is_none(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "job.json").write_text(text)
    (tmp_path / "jobs.json").write_text(text)
    assert read_job(folder) is None
    note_job(folder, Job(folder="job", state="failed", exit_status=2))
    assert read_job(folder) == Job(folder="job", state="failed", exit_status=2)


def test_values_of_the_wrong_kind_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    wrong = {"folder": "job", "state": ["x"], "process": "12", "number": None, "more": 1}
    write_json(folder / "job.json", wrong)
    assert read_job(folder) == Job(folder="job")


def test_a_job_that_nobody_runs_is_not_running(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = tmp_path / "job"
    process = identify(sleeper.pid)
    for stranger in of_another_time(process)[:2]:
        note_stranger(folder, stranger)
        job = read_job(folder)
        assert job is not None
        assert (job.state, job.process) == ("stopped", None)
    note_stranger(folder, process)
    alive = read_job(folder)
    assert alive is not None
    assert (alive.state, alive.process) == ("running", sleeper.pid)
    # What runs on another host cannot be seen from here.
    note_stranger(folder, replace(process, host="elsewhere"))
    assert (read_job(folder) or alive).state == "running"

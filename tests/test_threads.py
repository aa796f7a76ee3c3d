"""Threads: who decides about their number and their waiting, and what a container allows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caft import threads

ROOT = Path(__file__).parents[1]
SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        # Set first, so that it is restored whatever the test leaves.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def settings() -> dict[str, str]:
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_a_user_decides_how_threads_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "mine")
    monkeypatch.setattr(threads, "_GROUPS", Path("nowhere"))
    threads.set_up_threads()
    assert settings() == {name: "mine"}


def test_a_container_with_half_of_the_cores_time_has_half_of_the_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_GROUPS", tmp_path)
    monkeypatch.setattr(threads, "_OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("0::/\n")
    threads.set_up_threads()
    # Without a limit torch decides, which knows physical cores.
    assert set(settings()) == {"GOMP_SPINCOUNT"}
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    threads.set_up_threads()
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "4"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        # The groups around one's own limit it, too.
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "500000 100000", "a/b/cpu.max": "50000 100000"}, 1),
        # Version 1, as a container sees itself: the path is that of the host.
        (
            "4:memory:/docker/f\n3:cpu,cpuacct:/docker/f",
            {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        # A job of Slurm whose namespace begins elsewhere.
        ("0::/../job", {"job/cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "odd"}, 8),
        ("", {}, 8),
    ],
)
def test_usable_cores_are_those_of_the_strictest_group(
    own: str, files: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_GROUPS", tmp_path)
    monkeypatch.setattr(threads, "_OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.usable_cores() == cores


def test_processes_side_by_side_divide_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_GROUPS", Path("nowhere"))
    for processes, number in ((3, "2"), (8, "1"), (20, "1")):
        with threads.divided_cores(processes):
            assert settings() == {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number}
        assert settings() == {}
    with threads.divided_cores(1):
        assert settings() == {}
    # joblib would give its workers another number for what is missing, and torch would take that.
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with threads.divided_cores(2):
        assert settings() == {"OMP_NUM_THREADS": "5", "MKL_NUM_THREADS": "5"}
    assert settings() == {"OMP_NUM_THREADS": "5"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torch has libgomp on Linux only")
def test_a_run_sets_them_before_torch_reads_them(tmp_path: Path) -> None:
    """OpenMP itself says what it has read."""
    words = [
        *("model=tiny", "dataset.train=20", "dataset.validation=5", "dataset.test=5"),
        *("until=score", "trainer.progress=false", "trainer.accelerator=cpu"),
        *(f"store.path={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'out'}"),
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words],
        env={**os.environ, "OMP_DISPLAY_ENV": "verbose", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "GOMP_SPINCOUNT = '4000'" in done.stderr
    assert "computing on cpu, 1 thread\n" in (tmp_path / "out" / "run.log").read_text()

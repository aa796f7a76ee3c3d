"""How many jobs of a sweep share the cores of this machine, by its launcher."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from caft import threads
from caft.hydra_bridge.sweep import count_at_once
from caft.threads import usable_cores

sys.path.insert(0, str(Path(__file__).parent))

from test_sweeps import JOBLIB, sweep

BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
LOCAL = {"_target_": "hydra_plugins.submitit_launcher.LocalLauncher", "cpus_per_task": None}
SLURM = {"_target_": "hydra_plugins.submitit_launcher.SlurmLauncher", "cpus_per_task": 8}


def joblib(jobs: int | None) -> dict[str, Any]:
    return {"_target_": "hydra_plugins.joblib_launcher.JoblibLauncher", "n_jobs": jobs}


@pytest.mark.parametrize(
    ("launcher", "planned", "at_once"),
    [
        (BASIC, 6, 1),
        (SLURM, 6, 1),
        (LOCAL, 6, 6),
        (joblib(4), 6, 4),
        (joblib(4), 3, 3),
        (joblib(None), 6, 1),
        (joblib(-1), 20, 8),
        (joblib(-3), 20, 6),
        (joblib(-100), 20, 1),
        # A search runs as many trials as its sweeper says.
        (joblib(-1), 0, 5),
        (BASIC, 0, 1),
    ],
)
def test_jobs_at_once(
    launcher: dict[str, Any], planned: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_GROUPS", Path("nowhere"))
    assert count_at_once(master(launcher), planned) == at_once


def test_jobs_wait_for_their_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert count_at_once(master(joblib(4), devices=2), 6) == 2
    assert count_at_once(master(joblib(4), accelerator="cpu"), 6) == 4
    assert count_at_once(master(joblib(4), devices=8), 6) == 4


def master(launcher: dict[str, Any], accelerator: str = "auto", devices: int = 1) -> Any:
    return OmegaConf.create(
        {
            "hydra": {"launcher": launcher, "sweeper": {"n_jobs": 5}},
            "trainer": {"accelerator": accelerator, "devices": devices},
        }
    )


@pytest.mark.slow
def test_every_job_has_its_share_of_the_cores(tmp_path: Path) -> None:
    free = {name: value for name, value in os.environ.items() if name not in threads._NUMBER}
    both = sweep(tmp_path, "seed=1,2", *JOBLIB, env=free)
    (first,), (second,) = both.seen("seed=1"), both.seen("seed=2")
    assert first["threads"] == second["threads"] == str(max(1, usable_cores() // 2))

"""Sweeps of the real job, in the processes that a user's command starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


class Sweep:
    """One command line, started as often as it takes."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder / "sweep"
        self.here = folder
        self.command = [
            sys.executable,
            str(ROOT / "train.py"),
            "-m",
            *words,
            f"hydra.sweep.dir={self.folder}",
            f"store.path={folder / 'store'}",
        ]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            cwd=self.here,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> str:
        with self.start() as process:
            said, _ = process.communicate(timeout=900)
        assert process.returncode == 0, said
        return said

    def logs(self) -> list[str]:
        return [file.read_text(encoding="utf-8") for file in self.folder.glob("*/run.log")]

    def jobs(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / "jobs.json").read_text(encoding="utf-8"))["jobs"]

    def summaries(self) -> list[dict[str, Any]]:
        found = [self.folder / job["folder"] / "summary.json" for job in self.jobs()]
        return [json.loads(file.read_text(encoding="utf-8")) for file in found]


@pytest.mark.slow
def test_two_jobs_side_by_side_have_two_devices_each(small: Any, tmp_path: Path) -> None:
    sweep = Sweep(
        tmp_path, *small.words, "method=sft", small.one_stage, "seed=1,2", "trainer.devices=2",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    sweep.run()
    assert [job["state"] for job in sweep.jobs()] == ["done", "done"]
    # Each job tuned once, and neither the other's children nor a replayed command did it again.
    tuned = [path.parent.name for path in (tmp_path / "store" / "tune").glob("*/manifest.json")]
    named = [
        stage["fingerprint"]
        for summary in sweep.summaries()
        for stage in summary["stages"]
        if stage["name"].startswith("tune")
    ]
    assert len(set(named)) == 2
    assert sorted(named) == sorted(tuned)


@pytest.mark.slow
def test_a_job_that_was_preempted_goes_on_with_its_stage_and_its_wandb_run(
    small: Any, tmp_path: Path
) -> None:
    """A cluster requeues a job after SIGTERM: the same job is started again."""
    sweep = Sweep(
        tmp_path, *small.words, "method=sft", "method.stages.0.epochs=30", "seed=1",
        "logger=wandb", "tuning.checkpoint_seconds=3600",
    )  # fmt: skip
    with sweep.start() as process:
        end = time.monotonic() + 300
        while not any("epoch 2: validation" in text for text in sweep.logs()):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert [job["state"] for job in sweep.jobs()] != ["done"]
    sweep.run()
    (job,) = sweep.jobs()
    assert job["state"] == "done"
    assert "resumed after step" in "".join(sweep.logs())
    runs = [path.name for path in sweep.folder.rglob("offline-run-*") if path.is_dir()]
    assert len(runs) == 2
    assert len({name.rpartition("-")[2] for name in runs}) == 1


@pytest.mark.slow
def test_a_search_maximises_validation_accuracy_and_repeats_nothing(
    small: Any, tmp_path: Path
) -> None:
    sweep = Sweep(
        tmp_path, *small.words, "multirun_sweeps=tune_lr", "hydra.sweeper.n_trials=3",
        "method=sft", small.one_stage,
    )  # fmt: skip
    sweep.run()
    assert [job["state"] for job in sweep.jobs()] == ["done"] * 3
    accuracies = [
        max(summary["accuracy"]["validation"]["tuned"].values()) for summary in sweep.summaries()
    ]
    results = yaml.safe_load((sweep.folder / "optimization_results.yaml").read_text())
    assert results["best_value"] == pytest.approx(max(accuracies))
    assert set(results["best_params"]) == {"tuning.learning_rate", "tuning.lora.r"}
    before = {file: file.stat().st_mtime_ns for file in sweep.folder.rglob("summary.json")}
    sweep.run()
    jobs = {job["folder"] for job in sweep.jobs()}
    after = {file: file.stat().st_mtime_ns for file in sweep.folder.rglob("summary.json")}
    for folder in jobs:
        file = sweep.folder / folder / "summary.json"
        assert before[file] == after[file]

"""Runs that log elsewhere, and several jobs of one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caft.report.schema import check_summary


def test_wandb_without_a_login_leaves_an_offline_run_that_is_finished(
    workshop: Any, small: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = workshop.run(
        *small.words, "method=sft", small.one_stage, "logger=wandb", "evaluation.modes=[answer]"
    )
    assert run.status == 0, run.err
    import wandb

    assert wandb.run is None
    (offline,) = run.folder.glob("wandb/offline-run-*")
    # The record of a run's end is the last that a finished run writes.
    (log,) = offline.glob("run-*.wandb")
    assert log.stat().st_size > 0
    check_summary(run.summary)
    assert not (run.folder / "metrics.csv").exists()


@pytest.fixture(scope="session")
def sweep(shared: Any, whole_run: Any, small: Any) -> Any:
    return shared.run(
        "-m",
        *small.words,
        "method=sft,distill,complexity_aware",
        "method.stages.0.epochs=1",
        "until=tune",
    )


def test_a_sweep_over_methods_leaves_a_folder_a_job(sweep: Any) -> None:
    assert sweep.status == 0, sweep.err
    folders = sorted(path.parent for path in sweep.folder.glob("*/summary.json"))
    assert [folder.name.split("_")[0] for folder in folders] == ["0", "1", "2"]
    names = []
    for folder in folders:
        job = type(sweep)(0, folder, "", "")
        check_summary(job.summary)
        names.append(job.summary["method"]["name"])
        assert job.summary["stages"][0]["cached"]
        assert (folder / "run.log").is_file()
        assert (folder / "adapter").is_dir()
    assert names == ["sft", "distill", "complexity_aware"]


def test_a_job_that_fails_does_not_stop_the_others(shared: Any, whole_run: Any, small: Any) -> None:
    run = shared.run(
        "-m",
        *small.words,
        "method=complexity_aware,base",
        "split=entropy_threshold",
        "split.thresholds=[50,100]",
        "evaluation.modes=[answer]",
    )
    assert run.status == 2
    assert [path.parent.name[0] for path in run.folder.glob("*/summary.json")] == ["1"]
    lines = run.err.splitlines()
    assert lines[0].startswith("job 0_")
    assert "no training question is in it" in lines[0]
    assert lines[-1] == "1 of 2 jobs of this sweep failed"

"""Runs that log elsewhere, and several jobs of one command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caft.report.check import check_summary


def test_wandb_without_a_login_leaves_an_offline_run_that_is_finished(
    workshop: Any, small: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = workshop.run(*small.words, small.two_stages, "logger=wandb", "evaluation.modes=[answer]")
    assert run.status == 0, run.err
    import wandb

    assert wandb.run is None
    (offline,) = run.folder.glob("wandb/offline-run-*")
    records = read_back(offline)
    assert [end.get("exit_code", 0) for end in records("exit")] == [0]
    (started,) = records("run")
    assert started["job_type"] == "complexity_aware"
    assert "model=tiny" in started["tags"]
    assert not any("store.path" in tag for tag in started["tags"])
    assert started["config"]["update"]["method"]["stages"][1]["targets"] == {"hard": "rationale"}
    rows = [record["item"] for record in records("history")]
    for stage in (1, 2):
        assert any(f"tune_{stage}/loss" in row for row in rows)
    shown = ("scores", "predictions", "rationales", "stages", "numbers")
    assert {f"tables/{name}.nrows" for name in shown} <= {name for row in rows for name in row}
    artifacts = records("artifact")
    made_from = {a["type"]: json.loads(a["metadata"])["made_from"] for a in artifacts
                 if a["type"] != "run_table"}  # fmt: skip
    assert {kind: list(lineage) for kind, lineage in made_from.items()} == {
        "dataset": [],
        "scores": ["dataset"],
        "rationales": ["dataset", "scores"],
        "adapter": ["dataset", "scores", "rationales"],
    }
    numbers = {key: value for part in records("summary") for key, value in part["update"].items()}
    columns = {name for name in numbers if name[0] != "_" and "." not in name}
    assert len(columns) <= 12
    assert numbers["accuracy"] == run.summary["accuracy"]["tuned"]["answer"]["value"]
    assert numbers["best_mode"] == "answer"
    assert started["display_name"].startswith("tiny-arithmetic-complexity_aware, seed 42, ")
    assert run.out.splitlines()[-1] == f"Logger  wandb sync {run.folder}/wandb/offline-run-*"
    predictions, page = run.folder / "predictions.parquet", run.folder / "report.html"
    (table,) = offline.glob("files/media/table/tables/predictions*.json")
    assert json.loads(table.read_text())["columns"] == pq.read_schema(predictions).names
    (attached,) = offline.glob("files/media/html/report*.html")
    assert attached.read_bytes() == page.read_bytes()
    check_summary(run.summary)
    assert not (run.folder / "metrics.csv").exists()


def test_a_missing_logger_is_told_before_anything_is_computed(
    workshop: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    run = workshop.run(*small.words, "logger=mlflow")
    assert run.status == 2
    (line,) = run.err.splitlines()
    assert " 'mlflow-skinny>=3'" in line
    assert not list(workshop.store.glob("*/*"))


def read_back(offline: Path) -> Callable[[str], list[Any]]:
    """What an offline run wrote, by the kind of record, as wandb's own reader prints it."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(offline)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in printed.splitlines()]
    return lambda kind: [record[kind] for record in records if record["type"] == kind]


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
    assert [folder.name.rpartition("-")[0] for folder in folders] == [
        "method=complexity_aware",
        "method=distill",
        "method=sft",
    ]
    names = []
    for folder in folders:
        job = type(sweep)(0, folder, "", "")
        check_summary(job.summary)
        names.append(job.summary["method"]["name"])
        assert job.summary["stages"][0]["cached"]
        assert (folder / "run.log").is_file()
        assert (folder / "adapter").is_dir()
    assert names == ["complexity_aware", "distill", "sft"]


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
    (finished,) = run.folder.glob("*/summary.json")
    assert finished.parent.name.startswith("method=base-")
    lines = run.err.splitlines()
    assert lines[0].startswith("job method=complexity_aware-")
    assert "no training question is in it" in lines[0]
    assert lines[-1].startswith("1 of 2 jobs of this sweep failed; the same command runs ")

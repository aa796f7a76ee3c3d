"""Metrics arrive where they are said to arrive, and a run never asks, leaks or pretends."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch.utils.data import DataLoader

from caft.trainers.build import build_trainer
from caft.trainers.config import CsvLoggerConfig, TrainerConfig, WandbLoggerConfig, WandbMode
from caft.trainers.loggers import log_summary, open_logger, wandb_mode


class ThreeSteps(LightningModule):
    """Logs one number a step, as tuning does."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.step()
        self.log_dict({"train/loss": 3.0 - batch_idx})


def fit(logger: Any, folder: Path) -> None:
    trainer = build_trainer(
        TrainerConfig(accelerator="cpu", progress=False), folder=folder, logger=logger
    )
    trainer.fit(ThreeSteps(), DataLoader([torch.zeros(1)] * 3, batch_size=None))


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_every_step_of_both_stages_in_the_runs_own_folder(tmp_path):
    with open_logger(CsvLoggerConfig(), folder=tmp_path, name="x", run_config={}) as logger:
        fit(logger, tmp_path)
        fit(logger, tmp_path)
    losses = [row["train/loss"] for row in read_metrics(tmp_path)]
    assert [float(loss) for loss in losses] == [3.0, 2.0, 1.0, 3.0, 2.0, 1.0]


def fail_in(opened: Any) -> Any:
    """Log one number into the opened logger, and fail; returns what was opened."""
    with pytest.raises(ZeroDivisionError), opened as logger:  # noqa: PT012
        logger.log_metrics({"train/loss": 1.5}, step=0)
        raise ZeroDivisionError
    return logger


def test_csv_keeps_the_metrics_of_a_run_that_fails(tmp_path):
    fail_in(open_logger(CsvLoggerConfig(), folder=tmp_path, name="x", run_config={}))
    assert [float(row["train/loss"]) for row in read_metrics(tmp_path)] == [1.5]


def test_csv_takes_final_numbers_that_no_step_had(tmp_path):
    with open_logger(CsvLoggerConfig(), folder=tmp_path, name="x", run_config={}) as logger:
        fit(logger, tmp_path)
        log_summary(logger, {"accuracy": 0.75})
    rows = read_metrics(tmp_path)
    assert [row["accuracy"] for row in rows if row["accuracy"]] == ["0.75"]
    assert len([row for row in rows if row["train/loss"]]) == 3


# W&B: nothing here reaches a network, and a question would fail the test for want of a terminal.


@pytest.fixture
def bare_home(tmp_path, monkeypatch):
    """No login anywhere, whatever the machine's own user has."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "NETRC"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(home / kind))
    return home


def open_offline(folder: Path, name: str) -> Any:
    folder.mkdir(exist_ok=True)
    return open_logger(
        WandbLoggerConfig(group="sweep", tags=["a tag"]),
        folder=folder,
        name=name,
        run_config={"config": "model: tiny"},
    )


def records_of(folder: Path, kind: str) -> list[Any]:
    """What an offline run wrote of one kind, as wandb's own reader prints it."""
    (run,) = folder.glob("wandb/offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in printed.splitlines()]
    return [record[kind] for record in records if record["type"] == kind]


def exit_code_of(folder: Path) -> int:
    (end,) = records_of(folder, "exit")
    return end.get("exit_code", 0)


def test_wandb_jobs_of_one_process_are_runs_of_their_own_and_leak_nothing(tmp_path, bare_home):
    pytest.importorskip("wandb")
    import wandb

    before = dict(os.environ)
    folders = [tmp_path / name for name in ("first", "second", "failed")]
    ids = []
    for folder in folders[:2]:
        with open_offline(folder, folder.name) as logger:
            fit(logger, folder)
            log_summary(logger, {"accuracy": 0.75})
            ids.append(logger.experiment.id)
    ids.append(fail_in(open_offline(folders[2], "failed")).experiment.id)
    assert wandb.run is None
    assert len(set(ids)) == 3
    assert [exit_code_of(folder) for folder in folders] == [0, 0, 1]

    (run,) = records_of(folders[1], "run")
    assert (run["display_name"], run["run_group"], run["tags"]) == ("second", "sweep", ["a tag"])
    assert run["config"]["update"]["config"] == "model: tiny"
    rows = [record["item"] for record in records_of(folders[1], "history")]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == [3, 2, 1]
    assert [row["accuracy"] for row in rows if "accuracy" in row] == [0.75]
    leaked = {name for name, value in os.environ.items() if before.get(name) != value}
    # wandb's own note of its background service, which its client library reads back.
    assert leaked <= {"WANDB_SERVICE"}


def test_auto_is_online_with_a_login_and_offline_without(bare_home, monkeypatch):
    assert wandb_mode(WandbMode.auto) == "offline"
    assert wandb_mode(WandbMode.online) == "online"
    (bare_home / ".netrc").write_text("machine example.org login me password secret\n")
    (bare_home / ".netrc").chmod(0o600)
    assert wandb_mode(WandbMode.auto) == "offline"
    (bare_home / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert wandb_mode(WandbMode.auto) == "online"
    assert wandb_mode(WandbMode.offline) == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(WandbMode.auto) == "disabled"


def test_a_key_in_the_environment_is_a_login(bare_home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "not a real one")
    assert wandb_mode(WandbMode.auto) == "online"

"""Which device a config means, on machines that have other ones."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule

from caft.errors import UserError
from caft.signals import take_signals_back, watch_signals
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.devices import pick_device, refuse_too_many_devices


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return count


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices", "expected"),
    [
        (0, "auto", 3, "cpu"),
        (1, "auto", 1, "cuda"),
        (4, "gpu", 4, "cuda"),
        (1, "cpu", 2, "cpu"),
    ],
    indirect=["gpus"],
)
def test_the_device_that_is_there(gpus: int, accelerator: str, devices: int, expected: str) -> None:
    assert pick_device(TrainerConfig(accelerator=accelerator, devices=devices)) == expected


@pytest.mark.parametrize("gpus", [0], indirect=True)
def test_an_absent_accelerator_is_refused(gpus: int) -> None:
    with pytest.raises(UserError, match=r"'cuda', which this machine lacks; there is cpu$"):
        pick_device(TrainerConfig(accelerator="cuda"))


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_more_devices_than_there_are_are_refused(gpus: int) -> None:
    with pytest.raises(UserError, match="devices is 3, and this machine has 2 cuda devices"):
        pick_device(TrainerConfig(devices=3))


@pytest.mark.parametrize("gpus", [0, 1], indirect=True)
def test_more_processes_than_cores_are_refused(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    for devices in (1, 3):
        refuse_too_many_devices(TrainerConfig(accelerator="cpu", devices=devices))
    with pytest.raises(
        UserError, match=r"devices is 4; .* may use 3 processor cores; give at most 3$"
    ):
        refuse_too_many_devices(TrainerConfig(accelerator="cpu", devices=4))
    refuse_too_many_devices(TrainerConfig(devices=1))


@pytest.mark.parametrize("gpus", [8], indirect=True)
def test_accelerators_may_outnumber_the_cores(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    refuse_too_many_devices(TrainerConfig(devices=8))


def test_lightning_says_nothing_of_its_own(tmp_path: Path) -> None:
    """Its line for every process of a run went to standard error."""
    build_trainer(TrainerConfig(accelerator="cpu"), folder=tmp_path)
    for name in ("pytorch_lightning.utilities", "lightning_fabric.utilities.distributed"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger(name).isEnabledFor(logging.WARNING)


class _Probe(LightningModule):
    """Notes what handles SIGTERM, and takes it back where tuning and prediction do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen: dict[str, object] = {}

    def on_train_start(self) -> None:
        self.seen["taken"] = signal.getsignal(signal.SIGTERM)
        take_signals_back()

    def on_predict_start(self) -> None:
        self.on_train_start()

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen["step"] = signal.getsignal(signal.SIGTERM)
        return (self.weight * batch).sum()

    def predict_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.training_step(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("fits", [True, False])
def test_lightning_takes_signals_before_the_hooks_that_take_them_back(
    tmp_path: Path, fits: bool
) -> None:
    """With several processes its handler sends a message into their exchanges, and all hang."""
    probe, loader = _Probe(), torch.utils.data.DataLoader(torch.ones(2, 1))
    trainer = build_trainer(TrainerConfig(accelerator="cpu"), folder=tmp_path)
    with watch_signals():
        ours = signal.getsignal(signal.SIGTERM)
        trainer.fit(probe, loader) if fits else trainer.predict(probe, loader)
    assert probe.seen["taken"] != ours
    assert probe.seen["step"] == ours

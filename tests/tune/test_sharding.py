"""Weights that two processes share (trainer.strategy=fsdp) end as those of one process do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from caft.records import Target
from caft.trainers.config import Strategy, TrainerConfig
from caft.tune.config import Adapter, LoraConfig, Loss
from caft.tune.examples import TrainingPair
from caft.tune.stage import TuneInputs

sys.path.insert(0, str(Path(__file__).parent))
from test_resume import StoppedError, StoppingLogger, question, train, work

TWO = TrainerConfig(accelerator="cpu", progress=False, devices=2, strategy=Strategy.fsdp)
# Sums in another order, in float32; AdamW divides by the root of a small second moment.
CLOSE = {"rtol": 0, "atol": 1e-5}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("models"))


def job(models: str, adapter: Adapter = Adapter.full, **dials: Any) -> TuneInputs:
    """Thirteen rows of two weights: the last step has one row, and one process has none of it."""
    lora = LoraConfig(r=4)
    dials = {"adapter": adapter, "lora": lora, "batch_tokens": 64, "clip": 0.1, **dials}
    tuning = work(models, learning_rate=1e-3, **dials)
    pairs = [
        TrainingPair(question(number), Target.answer, "hard" if number < 6 else "easy")
        for number in range(13)
    ]
    return replace(tuning, pairs=pairs, weights={"hard": 2.0})


def end(artifact: Any) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    (file,) = (artifact.folder / "adapter").glob("*.safetensors")
    return load_file(file), TuneInputs.read(artifact.folder).curve


def assert_same_end(one: Any, other: Any) -> None:
    (weights, curve), (others, other_curve) = end(one), end(other)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], **CLOSE)
    for row, other_row in zip(curve, other_curve, strict=True):
        assert row == pytest.approx(other_row, abs=1e-5), row


@pytest.mark.parametrize(
    ("adapter", "dials"),
    [
        (Adapter.full, {}),
        (Adapter.full, {"loss": Loss.eaft, "gradient_checkpointing": True}),
        (Adapter.lora, {}),
        (Adapter.lora, {"loss": Loss.dft, "lora": LoraConfig(r=4, use_dora=True)}),
    ],
)
def test_two_processes_share_the_weights_of_one(
    models: str, tmp_path: Path, adapter: Adapter, dials: dict[str, Any]
) -> None:
    tuning = job(models, adapter, **dials)
    whole = train(tuning, tmp_path / "one")
    shared = train(replace(tuning, trainer=TWO), tmp_path / "two")
    assert_same_end(whole, shared)
    norms = [row["gradient_norm"] for row in end(whole)[1] if "gradient_norm" in row]
    assert max(norms) > tuning.config.clip  # it was clipped, by the norm of all


@pytest.mark.parametrize("adapter", [Adapter.full, Adapter.lora])
@pytest.mark.parametrize("first", [1, 2])
def test_a_stopped_stage_goes_on_with_another_number_of_devices(
    models: str, tmp_path: Path, adapter: Adapter, first: int
) -> None:
    tuning = job(models, adapter)
    whole = train(tuning, tmp_path / "whole")
    order = [tuning.trainer, TWO] if first == 1 else [TWO, tuning.trainer]
    with pytest.raises(StoppedError):
        train(replace(tuning, trainer=order[0]), tmp_path / "two", StoppingLogger(7))
    assert_same_end(whole, train(replace(tuning, trainer=order[1]), tmp_path / "two"))

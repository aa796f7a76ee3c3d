"""What only a process can show: signals during the real job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_during_tuning_keeps_the_finished_stages(
    small: Any, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    words = [*small.words, "method=sft", "method.stages.0.epochs=100000", "hydra.run.dir=out"]
    command = [sys.executable, str(ROOT / "train.py"), *words, f"store.path={tmp_path / 'store'}"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("epoch 1: validation" in line for line in process.stdout)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert errors.splitlines()[-1].startswith(f"stopped by {number.name}")
    assert not (tmp_path / "out" / "summary.json").exists()
    # A hundred thousand epochs go on from here, and not from where the last minute ended.
    assert "whose checkpoint is kept" in (tmp_path / "out" / "run.log").read_text()
    made = [path.parts[-3] for path in (tmp_path / "store").glob("*/*/manifest.json")]
    assert [name for name in made if name == "score"] == ["score"]
    assert not list((tmp_path / "store" / "tune").glob("[!.]*/manifest.json"))


@pytest.mark.slow
def test_two_devices_stop_at_a_signal_and_go_on_to_the_same_weights(
    small: Any, tmp_path: Path
) -> None:
    """Slurm's pre-emption reaches the parent only: its children finish the step and are saved."""
    words = [*small.words, "method=sft", "method.stages.0.epochs=12", "until=tune"]
    words += ["trainer.devices=2", "tuning.checkpoint_seconds=3600"]

    def start(store: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words, f"store.path={tmp_path / store}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with start("stopped") as process:
        assert process.stdout is not None
        assert any("epoch 2: validation" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "whose checkpoint is kept" in said
    for store in ("stopped", "whole"):
        with start(store) as process:
            said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert ("resumed after step" in said) == (store == "stopped")
    stopped, whole = (
        load_file(next((tmp_path / store / "tune").glob("*/adapter/adapter_model.safetensors")))
        for store in ("stopped", "whole")
    )
    assert all(stopped[name].equal(weight) for name, weight in whole.items())

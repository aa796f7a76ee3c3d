"""What only a process can show: signals during the real job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("tuning, stage 1" in line for line in process.stdout)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert errors.splitlines()[-1].startswith(f"stopped by {number.name}")
    assert not (tmp_path / "out" / "summary.json").exists()
    made = [path.parts[-3] for path in (tmp_path / "store").glob("*/*/manifest.json")]
    assert [name for name in made if name == "score"] == ["score"]
    assert not list((tmp_path / "store" / "tune").glob("[!.]*/manifest.json"))

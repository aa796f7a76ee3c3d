"""Workspaces of small runs whose model is never loaded: a tokenizer is all that inputs need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caft.hydra_bridge import compose
from caft.pipeline.preflight import open_workspace
from caft.pipeline.workspace import Workspace
from caft.run_config import RunContext

sys.path.insert(0, str(Path(__file__).parent))

from small_runs import SMALL


@pytest.fixture
def open_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workspace]:
    """The workspace of a small run with these words on its command line."""
    monkeypatch.setenv("CAFT_CACHE", str(tmp_path / "cache"))

    def open_with(*words: str) -> Workspace:
        config = compose([*SMALL, f"store.path={tmp_path / 'store'}", *words])
        return open_workspace(config, RunContext(folder=tmp_path / "run"))

    return open_with

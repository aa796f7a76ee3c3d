"""Running the front door inside the test process, and leaving logging as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from caft.hydra_bridge import main, main_job
from caft.run_config import RunConfig, RunContext

Jobs = list[tuple[RunConfig, RunContext]]


@pytest.fixture
def started() -> Jobs:
    """Every job that the front door started, in order."""
    return []


@pytest.fixture
def front_door(
    started: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., int]]:
    """`main` with a run that only notes what it was given, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    root, outcome = logging.getLogger(), logging.getLogger("caft.outcome")
    before = (root.handlers[:], root.level, outcome.handlers[:], outcome.propagate)

    def note(config: RunConfig, context: RunContext) -> int:
        started.append((config, context))
        return 0

    def start(folder: Path, *, console: Path | None, env: Mapping[str, str]) -> int:
        return main_job(note, folder)

    yield lambda *words: main(note, words, start=start)
    root.handlers[:], outcome.handlers[:] = before[0], before[2]
    root.setLevel(before[1])
    outcome.propagate = before[3]

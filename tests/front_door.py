"""The front door in this process, for whoever calls it often: a fresh process takes seconds."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from caft.hydra_bridge import main, main_job
from caft.pipeline import run_pipeline

TINY = ("model=tiny", "model.dtype=float32", "trainer.accelerator=cpu")
ARITHMETIC = (
    *TINY,
    "dataset=arithmetic",
    "dataset.train=40",
    "dataset.validation=8",
    "dataset.test=12",
    "dataset.prompt.shots=4",
    "dataset.max_new_tokens=8",
)


def _start_here(folder: Path, *, console: Path | None, env: Mapping[str, str]) -> int:
    """A sweep's job in this process: a fresh one takes seconds to import torch."""
    return main_job(run_pipeline, folder)


def call(words: Sequence[str]) -> tuple[int, str, str]:
    """Status, stdout and stderr of the front door; logging is left as it was."""
    root, outcome = logging.getLogger(), logging.getLogger("caft.outcome")
    before = (root.handlers[:], root.level, outcome.handlers[:], outcome.propagate)
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(run_pipeline, words, start=_start_here)
    finally:
        for handler in {*root.handlers, *outcome.handlers} - {*before[0], *before[2]}:
            handler.close()
        root.handlers[:], outcome.handlers[:] = before[0], before[2]
        root.setLevel(before[1])
        outcome.propagate = before[3]
    return status, out.getvalue(), err.getvalue()

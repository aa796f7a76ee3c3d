"""How one run ends: its exit status, and one line if the user must act. No Hydra here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from caft.console import quiet_libraries
from caft.errors import UserError
from caft.run_config import RunConfig, RunContext
from caft.signals import (
    DONE,
    OUR_FAULT,
    USER_MUST_ACT,
    Caught,
    end_if_interrupted,
    say,
    watch_signals,
)
from caft.store import explain_refusal
from caft.streams import lenient_streams
from caft.sweeps.run_folders import mark_finished, mark_unfinished

Run = Callable[[RunConfig, RunContext], int]
"""What is run once a config is valid; returns an exit status."""

outcome = logging.getLogger("caft.outcome")
outcome.addHandler(logging.NullHandler())


def guard(
    run: Run,
    build: Callable[[], RunConfig],
    context: RunContext,
    keep_error: Callable[[str], None] | None = None,
) -> int:
    """The exit status of a run; raises nothing but what a signal raises."""
    whose = f"job {context.folder.name}: " if context.sweep else ""
    config = None
    try:
        mark_unfinished(context.folder)
        config = build()
        with quiet_libraries():
            status = run(config, context)
        if status == DONE:
            mark_finished(context.folder)
        return status
    except UserError as error:
        if config is None:
            end_if_interrupted()
        message, status = str(error), USER_MUST_ACT
        outcome.error("%s", error)
    except Exception as error:
        end_if_interrupted()
        refused = explain_refused_write(error, context.folder, config)
        outcome.exception(refused or "a bug in CAFT")
        message = refused or (
            f"a bug in CAFT: {type(error).__name__}: {error}; "
            f"its traceback is in {context.folder / 'run.log'}"
        )
        status = USER_MUST_ACT if refused else OUR_FAULT
    if keep_error:
        keep_error(message)
    say(f"{whose}{message}")
    return status


def explain_refused_write(
    error: Exception, folder: Path, config: RunConfig | None = None
) -> str | None:
    """One line if the system refused a write, wherever that was; else None.

    Rooms raise a more precise UserError when they know what they were writing.
    """
    if not isinstance(error, OSError):
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folders = {
        "hydra.run.dir (with -m hydra.sweep.dir)": folder,
        "CAFT_CACHE": Path(os.environ.get("CAFT_CACHE") or cache / "caft"),
        "HF_HOME": Path(os.environ.get("HF_HOME") or cache / "huggingface"),
        "TMPDIR": Path(os.environ.get("TMPDIR") or os.path.abspath(os.sep + "tmp")),
    }
    if config is not None:
        folders["store.path"] = config.store.folder
    return explain_refusal(error, folders)


def end_on_signals(work: Callable[[Caught], int], advice: str = "") -> int:
    """The status of `work`; after a signal that ends it the shell's, with `advice` where given."""
    with lenient_streams(), watch_signals() as caught:
        try:
            return work(caught)
        except BaseException as error:
            ended = isinstance(error, KeyboardInterrupt | SystemExit) and caught.number is not None
            if not ended and caught.raised is None:
                raise
            outcome.error("%s", caught.reason or f"stopped by {caught.name}")
            if advice:
                say(caught.explain(advice))
            return caught.status

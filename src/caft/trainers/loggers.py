"""The loggers of metrics: one for each run, finished whatever happens.

A logger of the kind NAME is the module `NAME_logger`, with two functions. `check` raises UserError
if it would refuse to start, and opens and sends nothing; `open_run` starts it. Where it keeps runs
outside of their folders, `name_command` says how to look at them; "" where it keeps none there.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

from caft.decoration import or_without
from caft.trainers.config import LoggerConfig
from caft.trainers.tracker import RunIdentity, RunLogger

_SHOWN_BY = {
    "wandb/offline-run-*": "wandb sync {folder}/{place}",
    "tensorboard": "tensorboard --logdir {folder}",
}
"""What a logger leaves in a run's folder, and the command that uploads or shows it."""


def check_logger(config: LoggerConfig) -> None:
    """UserError if the tracker would refuse to start; nothing is opened or sent."""
    _module_of(config).check(config)


@contextmanager
def open_logger(config: LoggerConfig, identity: RunIdentity) -> Iterator[RunLogger]:
    """A logger. It raises at once if it cannot be opened; later failures do not end the run."""
    logger = _GuardedLogger(_module_of(config).open_run(config, identity))
    try:
        yield cast("RunLogger", logger)
    except BaseException:
        logger.finish(1)
        raise
    logger.finish(0)


def _module_of(config: LoggerConfig) -> ModuleType:
    return import_module(f"caft.trainers.{config.kind}_logger")


def list_commands(folder: Path) -> list[str]:
    """Commands that upload or show what loggers left in the `folder` of a run or of a sweep."""
    quoted = shlex.quote(str(folder))
    return [
        command.format(folder=quoted, place=place)
        for left, command in _SHOWN_BY.items()
        for place in (left, f"*/{left}")
        if next(folder.glob(place), None)
    ]


def name_viewer(config: LoggerConfig) -> list[str]:
    """How to look at runs that a logger keeps outside of their folders."""
    name_command = getattr(_module_of(config), "name_command", None)
    command = name_command(config) if name_command else ""
    return [command] if command else []


class _GuardedLogger:
    """Warns of the first failure of the `inner` logger, and sends it nothing more.

    A full disk or a service that is gone must neither end a run nor hide what ended it.
    """

    def __init__(self, inner: RunLogger) -> None:
        self.inner = inner
        self.works = True

    def __getattr__(self, name: str) -> Callable[..., None]:
        log = getattr(self.inner, name)

        def send(*arguments: object) -> None:
            if self.works:
                sent = or_without("the rest of the logger's record", lambda: log(*arguments), False)
                self.works = sent is not False

        return send

    def finish(self, status: int) -> None:
        # A logger that has failed is also finished: it may save what it has.
        or_without("the end of the logger's record", lambda: self.inner.finish(status), None)

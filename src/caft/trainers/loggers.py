"""The loggers of metrics: one for each run, finished whatever happens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from caft.decoration import or_without
from caft.trainers.config import LoggerConfig, WandbLoggerConfig
from caft.trainers.tracker import RunIdentity, RunLogger

if TYPE_CHECKING:
    from pytorch_lightning.loggers import CSVLogger


def check_logger(config: LoggerConfig) -> None:
    """UserError if the tracker would refuse to start; nothing is opened or sent."""
    if isinstance(config, WandbLoggerConfig):
        from caft.trainers.wandb_login import check_wandb

        check_wandb(config)


@contextmanager
def open_logger(config: LoggerConfig, identity: RunIdentity) -> Iterator[RunLogger]:
    """A logger. It raises at once if it cannot be opened; later failures do not end the run."""
    logger = _GuardedLogger(_open(config, identity))
    try:
        yield logger
    except BaseException:
        logger.finish(1)
        raise
    logger.finish(0)


def _open(config: LoggerConfig, identity: RunIdentity) -> RunLogger:
    if isinstance(config, WandbLoggerConfig):
        from caft.trainers.wandb_logger import open_wandb

        return open_wandb(config, identity)
    return CsvRunLogger(identity.folder)


def _guarded(name: str) -> Callable[..., None]:
    def log(self: _GuardedLogger, *arguments: object) -> None:
        def attempt() -> bool:
            getattr(self.inner, name)(*arguments)
            return True

        if self.works:
            self.works = or_without("the rest of the logger's record", attempt, False)

    return log


class _GuardedLogger(RunLogger):
    """Warns of the first failure of the `inner` logger, and sends it nothing more.

    A full disk or a service that is gone must neither end a run nor hide what ended it.
    """

    def __init__(self, inner: RunLogger) -> None:
        self.inner = inner
        self.works = True

    log_step = _guarded("log_step")
    log_stage = _guarded("log_stage")
    log_table = _guarded("log_table")
    log_series = _guarded("log_series")
    log_product = _guarded("log_product")
    log_summary = _guarded("log_summary")

    def finish(self, status: int) -> None:
        # A logger that has failed is also finished: it may save what it has.
        or_without("the end of the logger's record", lambda: self.inner.finish(status), None)


class CsvRunLogger(RunLogger):
    """metrics.csv in the run's folder: tuning steps, and the final numbers if there were any.

    `stage` counts the tuning stages from 1; `step` counts from 0 through all of them, so that a
    curve over it never runs back. Tables and products are in the folder anyway.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logger: CSVLogger | None = None
        self._first_steps: dict[int, int] = {}
        self._next_step = 0

    def log_step(self, stage: int, metrics: Mapping[str, float], step: int) -> None:
        """One row, after those of the earlier stages."""
        # Not before: importing Lightning takes seconds, and many runs tune nothing.
        if self._logger is None:
            from pytorch_lightning.loggers import CSVLogger

            # The folder is the run's own, and it is new: nothing of an earlier run can be in it.
            warnings.filterwarnings("ignore", message="Experiment logs directory")
            self._logger = CSVLogger(self._folder, name="", version="")
        place = self._first_steps.setdefault(stage, self._next_step) + step
        self._next_step = max(self._next_step, place + 1)
        self._logger.log_metrics({"stage": stage, **metrics}, step=place)

    def log_summary(self, numbers: Mapping[str, float]) -> None:
        """A last row."""
        if self._logger is not None:
            self._logger.log_metrics(dict(numbers), step=self._next_step)

    def finish(self, status: int) -> None:
        """Write what is still in memory."""
        if self._logger is not None:
            self._logger.finalize("success" if status == 0 else "failed")

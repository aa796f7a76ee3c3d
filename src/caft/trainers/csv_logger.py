"""metrics.csv in the run's folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caft.trainers.config import CsvLoggerConfig
from caft.trainers.tracker import RunIdentity, RunLogger

if TYPE_CHECKING:
    from pytorch_lightning.loggers import CSVLogger


def check(_: CsvLoggerConfig) -> None:
    """It needs nothing."""


def open_run(_: CsvLoggerConfig, identity: RunIdentity) -> CsvRunLogger:
    """The file is made at the first step."""
    return CsvRunLogger(identity.folder)


class CsvRunLogger(RunLogger):
    """Tuning steps, and a last row with the headline if there were any.

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

    def log_summary(self, numbers: Mapping[str, float | str]) -> None:
        """A last row."""
        if self._logger is not None:
            self._logger.log_metrics(dict(numbers), step=self._next_step)

    def finish(self, status: int) -> None:
        """Write what is still in memory."""
        if self._logger is not None:
            self._logger.finalize("success" if status == 0 else "failed")

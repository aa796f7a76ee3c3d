"""Where a run's metrics go: one logger a run, finished whatever happens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from caft.decoration import or_without
from caft.trainers.config import CsvLoggerConfig, LoggerConfig, WandbLoggerConfig
from caft.trainers.tracker import Product, RunIdentity, RunLogger

T = TypeVar("T")


def check_logger(config: LoggerConfig) -> None:
    """UserError where the tracker would refuse to start; nothing is opened or sent."""
    if isinstance(config, WandbLoggerConfig):
        from caft.trainers.wandb_login import check_wandb

        check_wandb(config)


@contextmanager
def open_logger(config: LoggerConfig, identity: RunIdentity) -> Iterator[RunLogger]:
    """A logger for the body. A body that fails leaves a run that is marked as failed.

    What cannot be opened is said at once; what fails later costs no run, see `GuardedLogger`.
    """
    logger = GuardedLogger(_OPENERS[config.kind](config, identity))
    try:
        yield logger
    except BaseException:
        logger.finish(1)
        raise
    logger.finish(0)


class GuardedLogger:
    """See `RunLogger`. One that fails is told so as a warning, once, and is told nothing more.

    A full disk or a service that is gone must neither end a run nor speak over what ended it.
    """

    def __init__(self, inner: RunLogger) -> None:
        self.inner = inner
        self._works = True

    def for_stage(self, number: int, /) -> _StageGuard:
        """Metrics of one tuning stage."""
        return _StageGuard(self, self._tell(lambda: self.inner.for_stage(number)))

    def log_stage(self, name: str, numbers: Mapping[str, float]) -> None:
        """What one stage of the run took."""
        self._tell(lambda: self.inner.log_stage(name, numbers))

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows to be looked at."""
        self._tell(lambda: self.inner.log_table(name, rows))

    def log_series(self, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """A curve."""
        self._tell(lambda: self.inner.log_series(step, rows))

    def log_product(self, product: Product) -> None:
        """Files with their lineage."""
        self._tell(lambda: self.inner.log_product(product))

    def log_summary(self, numbers: Mapping[str, float]) -> None:
        """Final numbers of the run."""
        self._tell(lambda: self.inner.log_summary(numbers))

    def finish(self, status: int) -> None:
        """The run is over; also said to a logger that has failed, which may keep what it has."""
        or_without("the end of the logger's record", lambda: self.inner.finish(status), None)

    def _tell(self, do: Callable[[], T]) -> T | None:
        if not self._works:
            return None
        self._works = False
        told = or_without("the rest of the logger's record", lambda: (do(),), None)
        self._works = told is not None
        return told[0] if told else None


@dataclass(frozen=True, slots=True)
class _StageGuard:
    guard: GuardedLogger
    inner: Any

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One row."""
        if self.inner is not None:
            self.guard._tell(lambda: self.inner.log_metrics(metrics, step))


class CsvRunLogger:
    """metrics.csv in the run's folder: tuning steps, and the final numbers where there were any.

    `stage` counts the tuning stages from 1; `step` counts from 0 through all of them, so that a
    curve over it never runs back. Tables and products lie in the folder anyway.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logger: Any = None
        self._next_step = 0

    def for_stage(self, number: int, /) -> CsvStage:
        """One file for all stages."""
        # Not before: importing Lightning takes seconds, and many runs tune nothing.
        if self._logger is None:
            from pytorch_lightning.loggers import CSVLogger

            # The folder is the run's own, and it is new: nothing of an earlier run can be in it.
            warnings.filterwarnings("ignore", message="Experiment logs directory")
            self._logger = CSVLogger(self._folder, name="", version="")
        return CsvStage(self, number, self._next_step)

    def log_row(self, metrics: Mapping[str, float], step: int) -> None:
        """One row of one stage, at a step of the whole run."""
        self._next_step = max(self._next_step, step + 1)
        self._logger.log_metrics(dict(metrics), step=step)

    def log_stage(self, name: str, numbers: Mapping[str, float]) -> None:
        """In summary.json."""

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """In the folder."""

    def log_series(self, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """In report.html."""

    def log_product(self, product: Product) -> None:
        """In the folder."""

    def log_summary(self, numbers: Mapping[str, float]) -> None:
        """A last row."""
        if self._logger is not None:
            self._logger.log_metrics(dict(numbers), step=self._next_step)

    def finish(self, status: int) -> None:
        """Write what is still in memory."""
        if self._logger is not None:
            self._logger.finalize("success" if status == 0 else "failed")


@dataclass(frozen=True, slots=True)
class CsvStage:
    """Takes the metrics of one tuning stage, which counts its own steps from 0."""

    run: CsvRunLogger
    number: int
    first_step: int

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One row, moved behind those of the stages before."""
        self.run.log_row({"stage": self.number, **metrics}, self.first_step + step)


def _open_csv(_config: CsvLoggerConfig, identity: RunIdentity) -> RunLogger:
    return CsvRunLogger(identity.folder)


def _open_wandb(config: Any, identity: RunIdentity) -> RunLogger:
    from caft.trainers.wandb_logger import open_wandb

    return open_wandb(config, identity)


_OPENERS: dict[str, Callable[..., RunLogger]] = {"csv": _open_csv, "wandb": _open_wandb}

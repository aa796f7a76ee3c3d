"""Hydra's logging: checked before anything runs; run.log may be on a full disk."""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf, open_dict

from caft.errors import UserError
from caft.hydra_bridge.running import outcome
from caft.signals import say


class RunLog(logging.FileHandler):
    """The file handler that conf/hydra/job_logging names."""

    _lost, _ended = "", False

    def emit(self, record: logging.LogRecord) -> None:
        """As the file handler's own; the error that ends a run is told in any case."""
        self._ended = self._ended or record.name == outcome.name
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk is told of when all is written; logging itself would print tracebacks."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._lost = f"{self.baseFilename} is incomplete: {error.strerror}; make room there"

    def close(self) -> None:
        """One line for all that was lost; none beside the error that ended the run."""
        try:
            super().close()
        finally:
            if self._lost and not self._ended:
                say(self._lost)
            self._lost = ""


def check_logging(composed: DictConfig, folder: Path, *, opens: bool = True) -> None:
    """UserError if `hydra.job_logging`, `hydra.hydra_logging` or `hydra.verbose` is wrong.

    Both are set up once as a trial, since only their classes can check their settings. Files in
    `folder`, the output folder that does not exist yet, are not opened, and none without `opens`.
    """
    _refuse_bad_verbose(read_verbose(composed.hydra))
    for name in ("hydra_logging", "job_logging"):
        settings = _read_settings(composed, name, folder, opens=opens)
        try:
            configure_log(OmegaConf.create(settings), False)
        except Exception as error:  # whatever a handler's or a formatter's class raises
            raise UserError(
                f"hydra.{name} cannot be used: {'; '.join(_list_causes(error))}; leave it out, or "
                "give what Python's logging.config takes"
            ) from error


def read_verbose(hydra: DictConfig) -> bool | str | list[str]:
    """`hydra.verbose` as Python's own types: true, or the names of loggers."""
    values = OmegaConf.to_container(hydra, resolve=False)
    return values["verbose"]  # type: ignore[call-overload, index]


def _read_settings(
    composed: DictConfig, name: str, folder: Path, *, opens: bool
) -> dict[str, object]:
    trial = composed.copy()
    with open_dict(trial):
        trial.hydra.runtime.output_dir = str(folder)
    settings = OmegaConf.to_container(trial.hydra[name], resolve=True)
    assert isinstance(settings, dict)
    for handler in (settings.get("handlers") or {}).values():
        if isinstance(handler, dict) and (file := handler.get("filename")):
            inside = folder in Path(str(file)).parents
            handler["filename"] = file if opens and not inside else os.devnull
    return {str(key): value for key, value in settings.items()}


def _list_causes(error: BaseException | None) -> list[str]:
    """From what failed to why; the last one names the wrong value."""
    causes: list[str] = []
    while error is not None:
        cause = str(error) or type(error).__name__
        if not any(cause in known for known in causes):
            causes.append(cause)
        error = error.__cause__
    return causes


def _refuse_bad_verbose(verbose: object) -> None:
    if isinstance(verbose, bool):
        return
    names = verbose if isinstance(verbose, list) else [verbose]
    wrong = [name for name in names if not (isinstance(name, str) and _is_logger(name))]
    if wrong:
        raise UserError(
            f"hydra.verbose names {wrong[0]!r}, which is neither a logger nor an installed "
            "package; give true, false, or names such as caft.tune or [caft,openai]"
        )


def _is_logger(name: str) -> bool:
    if name in logging.root.manager.loggerDict:
        return True
    try:
        return find_spec(name.partition(".")[0]) is not None
    except ValueError:
        return False

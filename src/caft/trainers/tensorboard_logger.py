"""Event files of TensorBoard, written by Lightning's logger."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from caft.errors import UserError
from caft.program import install_hint
from caft.trainers.config import TensorboardLoggerConfig
from caft.trainers.tracker import RunIdentity, RunLogger, name_metrics


def check(_: TensorboardLoggerConfig) -> None:
    """UserError without the package."""
    if find_spec("tensorboard") is None:
        raise UserError(
            "logger=tensorboard needs tensorboard, which is not installed; "
            f"{install_hint('tensorboard')}, or use logger=csv"
        )


def name_command(config: TensorboardLoggerConfig) -> str:
    """The command that shows the runs of the user's own folder."""
    if not config.folder:
        return ""
    return f"tensorboard --logdir {shlex.quote(str(Path(config.folder).expanduser()))}"


def open_run(config: TensorboardLoggerConfig, identity: RunIdentity) -> TensorboardRunLogger:
    """Nothing is written before the first step."""
    folder = identity.folder / "tensorboard"
    if config.folder:
        # The jobs of two sweeps have folders of the same names.
        own = f"{identity.folder.name}-{identity.key[:8]}"
        folder = Path(config.folder).expanduser() / own
    return TensorboardRunLogger(folder, identity.config)


class TensorboardRunLogger(RunLogger):
    """Curves, and at the end the headline with its hyperparameters; TensorBoard has no tables."""

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        from pytorch_lightning.loggers import TensorBoardLogger

        self._config = dict(config)
        # A run that is started again sends its steps again: those of its first start are hidden.
        self._logger = TensorBoardLogger(
            folder, name="", version="", default_hp_metric=False, purge_step=0
        )

    def log_step(self, stage: int, metrics: Mapping[str, float], step: int) -> None:
        """Steps count from 1 in each stage."""
        self._logger.log_metrics(name_metrics(stage, metrics), step + 1)

    def log_report(self, page: Path) -> None:
        """TensorBoard shows no pages: its place, as text."""
        self._logger.experiment.add_text("report", f"`{page.resolve()}`")

    def log_summary(self, numbers: Mapping[str, float | str]) -> None:
        """Scalars beside the hyperparameters; names as text."""
        measured = {name: x for name, x in numbers.items() if not isinstance(x, str)}
        self._logger.log_hyperparams(self._config, measured)
        for name, text in numbers.items():
            if isinstance(text, str):
                self._logger.experiment.add_text(name, text)

    def finish(self, status: int) -> None:
        """Write what is still in memory."""
        self._logger.finalize("success" if status == 0 else "failed")

"""Where the metrics of training steps go: one Lightning logger a run, finished whatever happens."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caft.trainers.config import CsvLoggerConfig, LoggerConfig, WandbLoggerConfig, WandbMode


@contextmanager
def open_logger(
    config: LoggerConfig, *, folder: Path, name: str, run_config: Mapping[str, Any]
) -> Iterator[Any]:
    """A Lightning logger for the body. A body that fails leaves a run that is marked as failed."""
    logger, finish = _OPENERS[config.kind](config, folder, name, run_config)
    try:
        yield logger
    except BaseException:
        finish(1)
        raise
    finish(0)


def log_summary(logger: Any, numbers: Mapping[str, float]) -> None:
    """Final numbers of a run, under the names that summary.json gives them."""
    logger.log_metrics(dict(numbers))


def _open_csv(
    _config: CsvLoggerConfig, folder: Path, _name: str, _run_config: Mapping[str, Any]
) -> tuple[Any, Callable[[int], None]]:
    from pytorch_lightning.loggers import CSVLogger

    # The folder is the run's own, and it is new: nothing of an earlier run can be in it.
    warnings.filterwarnings("ignore", message="Experiment logs directory")

    logger = CSVLogger(folder, name="", version="")

    def finish(status: int) -> None:
        logger.finalize("success" if status == 0 else "failed")

    return logger, finish


def _open_wandb(
    config: WandbLoggerConfig, folder: Path, name: str, run_config: Mapping[str, Any]
) -> tuple[Any, Callable[[int], None]]:
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    # The run is opened here and handed in: Lightning's own `offline` sets the mode for the whole
    # process, and the next job of a sweep would inherit it.
    mode: Any = wandb_mode(config.mode)
    run = wandb.init(
        project=config.project,
        entity=config.entity,
        group=config.group,
        tags=list(config.tags),
        name=name,
        dir=str(folder),
        mode=mode,
        config=dict(run_config),
        reinit="finish_previous",
    )

    def finish(status: int) -> None:
        run.finish(exit_code=status)

    return WandbLogger(experiment=run, save_dir=str(folder)), finish


def wandb_mode(mode: WandbMode) -> str:
    """`auto` is online with a key or a login, else offline: a run never stops to ask."""
    if mode is not WandbMode.auto:
        return mode.name
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if _has_login() else "offline"


def _has_login() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    try:
        hosts = netrc.netrc().hosts
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


_OPENERS: dict[str, Callable[..., tuple[Any, Callable[[int], None]]]] = {
    "csv": _open_csv,
    "wandb": _open_wandb,
}

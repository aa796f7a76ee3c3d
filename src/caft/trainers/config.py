"""Where the work runs and where its metrics go."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated
from urllib.parse import urlsplit

from caft.dials import LongText, Range, Text, check_dials, shown
from caft.errors import UserError

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")


class Strategy(Enum):
    """What each device has of the model: all (`ddp`), or a part of every weight (`fsdp`)."""

    ddp = "ddp"
    fsdp = "fsdp"


@dataclass(kw_only=True, slots=True)
class TrainerConfig:
    """Lightning's devices; above 1, scoring, tuning and evaluation take a process each.

    `devices` are those of each node; with several nodes torchrun or srun starts all processes.
    Their number changes only rounding (docs/decisions/0033-what-rounding-moves.md).
    """

    accelerator: Text = "auto"
    devices: Annotated[int, Range(1, 1024)] = 1
    num_nodes: Annotated[int, Range(1, 1024)] = 1
    strategy: Strategy = Strategy.ddp
    progress: bool = True

    def __post_init__(self) -> None:
        check_dials(self, "trainer")
        if self.accelerator not in ACCELERATORS:
            raise UserError(
                f"trainer.accelerator is {shown(self.accelerator)!r}; give one of "
                f"{', '.join(ACCELERATORS)}"
            )

    @property
    def processes(self) -> int:
        """One for each device of each node."""
        return self.devices * self.num_nodes

    @property
    def shards(self) -> bool:
        """Whether weights are divided: a single device has all of them."""
        return self.strategy is Strategy.fsdp and self.processes > 1


@dataclass(kw_only=True, slots=True)
class LoggerConfig:
    """Where metrics of the training steps go."""

    kind: str

    def __post_init__(self) -> None:
        check_dials(self, "logger")


@dataclass(kw_only=True, slots=True)
class CsvLoggerConfig(LoggerConfig):
    """metrics.csv in the run's folder."""

    kind: str = "csv"


class WandbMode(Enum):
    """`auto`: online with a login or WANDB_API_KEY, else offline; never a prompt."""

    auto = "auto"
    online = "online"
    offline = "offline"


@dataclass(kw_only=True, slots=True)
class WandbLoggerConfig(LoggerConfig):
    """Weights & Biases. `group` is the sweep if none is named.

    `artifacts` also uploads scores, rationales and the adapter, with their lineage; of the dataset
    only its name, counts and fingerprint.
    """

    kind: str = "wandb"
    project: LongText = "caft"
    entity: Text | None = None
    group: LongText | None = None
    tags: list[str] = field(default_factory=list)
    mode: WandbMode = WandbMode.auto
    artifacts: bool = True


@dataclass(kw_only=True, slots=True)
class TensorboardLoggerConfig(LoggerConfig):
    """Event files of TensorBoard, in `tensorboard/` of the run's folder if `folder` is null."""

    kind: str = "tensorboard"
    folder: Text | None = None


@dataclass(kw_only=True, slots=True)
class MlflowLoggerConfig(LoggerConfig):
    """MLflow; `tracking_uri` is the one that MLflow itself would take if none is given.

    `artifacts` also uploads scores, rationales and the adapter, with their lineage.
    """

    kind: str = "mlflow"
    experiment: LongText = "caft"
    tracking_uri: LongText | None = None
    artifacts: bool = True

    def __post_init__(self) -> None:
        LoggerConfig.__post_init__(self)
        try:
            place = urlsplit(self.tracking_uri or "").netloc
        except ValueError as error:
            # It may hold a password.
            raise UserError(
                "logger.tracking_uri is no address; give one such as https://HOST or "
                "sqlite:///FILE, or null"
            ) from error
        if "@" in place:
            raise UserError(
                "logger.tracking_uri holds a user or a password, and a config is written down; "
                "leave it out and set MLFLOW_TRACKING_URI"
            )

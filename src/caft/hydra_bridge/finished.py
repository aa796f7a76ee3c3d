"""The config of a run that has ended, as its folder has it."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from caft.errors import UserError
from caft.hydra_bridge.composing import build_run_config
from caft.hydra_bridge.deprecated import rename_settings
from caft.hydra_bridge.error_text import explain
from caft.hydra_bridge.jobs import FROZEN
from caft.hydra_bridge.overrides import create_resolved
from caft.run_config import RunConfig

_SAVED = ".hydra/config.yaml"


def read_run_config(folder: Path) -> RunConfig:
    """The config of the run, or of the sweep's job, in `folder`.

    UserError if it holds none, or one that this version of CAFT cannot read.
    """
    try:
        config = _read(folder)
        rename_settings(config, "", str(folder / _SAVED).removesuffix(".yaml"))
        return build_run_config(config)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has no {_SAVED}, so it is not the folder of a run; give one that a run has "
            "written, such as outputs/DATE/TIME"
        ) from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        why = error if isinstance(error, UserError) else explain(error)
        raise UserError(f"the config of the run in {folder} cannot be read: {why}") from error


def _read(folder: Path) -> DictConfig:
    frozen = folder / FROZEN
    if frozen.is_file():
        return create_resolved(json.loads(frozen.read_text(encoding="utf-8"))["config"])
    saved = OmegaConf.load(folder / _SAVED)
    if not isinstance(saved, DictConfig):
        raise UserError(f"{_SAVED} is no table of settings")
    return saved

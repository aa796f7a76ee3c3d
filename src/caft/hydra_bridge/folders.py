"""Where runs and sweeps write, and how their folders are called."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from caft.errors import UserError
from caft.run_config import RunConfig
from caft.store import digest, plain

SHORT = 8
"""Hexadecimal digits of a digest in a folder's name."""

_LONGEST = 80


def digest_config(config: RunConfig) -> str:
    """20 hexadecimal digits of everything that a run's result depends on."""
    return digest(without_surroundings(plain(config)))


def without_surroundings(values: dict[str, Any]) -> dict[str, Any]:
    """A config's values without those that change no result: the store's place, the bars."""
    kept = {name: value for name, value in values.items() if name != "store"}
    if isinstance(kept.get("trainer"), dict):
        kept["trainer"] = {key: v for key, v in kept["trainer"].items() if key != "progress"}
    return kept


def name_job(overrides: str, config: RunConfig) -> str:
    """Such as `method=sft,seed=1-0a1b2c3d`. Another config is another folder, never an old one."""
    return _name(overrides, digest_config(config))


def name_sweep(title: str, base: dict[str, Any]) -> str:
    """The same command finds its folder again; `base` is the config that all its jobs share."""
    return _name(title, digest(without_surroundings(plain(base))))


def _name(words: str, digest_of: str) -> str:
    readable = re.sub(r"[^\w.=+,-]+", "_", words).strip("_,")[:_LONGEST]
    return f"{readable}-{digest_of[:SHORT]}" if readable else digest_of[:SHORT]


def is_finished(folder: Path) -> bool:
    """Whether a run has ended there with all its outputs."""
    return (folder / "summary.json").exists()


def refuse_finished_folder(folder: Path) -> None:
    """UserError where a run would write over a finished one."""
    if is_finished(folder):
        raise UserError(f"{folder} holds a finished run; give another output folder, or none")


def refuse_unwritable_folder(folder: Path) -> None:
    """UserError where a run cannot write."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(
            f"the output folder {folder} cannot be made, since {nearest} is a file; "
            "give another hydra.run.dir, or hydra.sweep.dir with -m"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"the output folder {folder} cannot be made, since {nearest} is not writable; "
            "give another hydra.run.dir, or hydra.sweep.dir with -m"
        )

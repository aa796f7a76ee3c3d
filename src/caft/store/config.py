"""Where finished stages are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caft.dials import Text, check_dials


@dataclass(kw_only=True, slots=True)
class StoreConfig:
    """`path` is the store's folder; relative to the project, wherever a run is started."""

    path: Text = ".caft_store"

    def __post_init__(self) -> None:
        check_dials(self, "store")

    @property
    def folder(self) -> Path:
        """`path` from the project's own folder where there is one, else from the current one."""
        path = Path(self.path).expanduser()
        # So runs that are started in other folders share their work.
        root = Path(__file__).parents[3]
        home = root if (root / "pyproject.toml").exists() else Path.cwd()
        return path if path.is_absolute() else home / path

"""Where finished stages are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caft.dials import Text, check_dials
from caft.program import find_project


@dataclass(kw_only=True, slots=True)
class StoreConfig:
    """`path` is the store's folder; a relative one is in the project, or if there is none, here."""

    path: Text = ".caft_store"

    def __post_init__(self) -> None:
        check_dials(self, "store")

    @property
    def folder(self) -> Path:
        """`path` from the project's own folder where there is one, else from the current one."""
        path = Path(self.path).expanduser()
        # So runs that are started in other folders share their work.
        return path if path.is_absolute() else (find_project() or Path.cwd()) / path

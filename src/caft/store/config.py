"""Where finished stages are kept."""

from __future__ import annotations

from dataclasses import dataclass

from caft.dials import Text, check_dials


@dataclass(kw_only=True, slots=True)
class StoreConfig:
    """`path` is the store's folder; relative to the project, wherever a run is started."""

    path: Text = ".caft_store"

    def __post_init__(self) -> None:
        check_dials(self, "store")

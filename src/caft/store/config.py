"""Where finished stages are kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class StoreConfig:
    """`path` is the store's folder; relative to the project, wherever a run is started."""

    path: str = ".caft_store"

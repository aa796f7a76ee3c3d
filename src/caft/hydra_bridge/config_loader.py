"""Hydra's loader of configs, which reads and merges the same files once a process.

A sweep composes a config for every job, nearly all of them of the same files; reading and merging
these is most of what composing costs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig

from caft.hydra_bridge.deprecated import rename_settings

_MOST_KEPT = 200


@dataclass
class _Result(ConfigResult):  # type: ignore[misc]
    """What a source has, and what must be the same for it to be so again."""

    state: Hashable = None


T = TypeVar("T")

_read: dict[Hashable, _Result] = {}
_merged: dict[Hashable, DictConfig] = {}


class Loader(ConfigLoaderImpl):  # type: ignore[misc]
    """As Hydra's own, also in its errors."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.repository = _Repository(search_path)

    def _compose_config_from_defaults_list(
        self, defaults: Sequence[ResultDefault], repo: ConfigRepository
    ) -> DictConfig:
        key = tuple(
            (each.config_path, each.package, each.primary, repo.load_config(each.config_path).state)
            for each in defaults
        )
        merge = super()._compose_config_from_defaults_list
        # Merging changes what it is given, and its result is the caller's to change.
        merged = _keep(_merged, key, lambda: merge(defaults=defaults, repo=copy.deepcopy(repo)))
        return copy.deepcopy(merged)


class _Repository(ConfigRepository):  # type: ignore[misc]
    """Hydra's reader of configs, in today's names."""

    def __deepcopy__(self, memo: object) -> _Repository:
        """For Hydra, which copies a repository before it gives it other sources."""
        return copy.copy(self)

    def load_config(self, config_path: str) -> _Result | None:
        """The config's content, not to be changed; schemas are ours, and have no old names."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None:
            return None
        state = _state(source, config_path)
        return _keep(_read, state, lambda: self._load(config_path, state))

    def _load(self, config_path: str, state: Hashable) -> _Result:
        found = super().load_config(config_path)
        if not found.is_schema_source and isinstance(found.config, DictConfig):
            rename_settings(found.config, _package(found, config_path), config_path)
        return _Result(**vars(found), state=state)


def _state(source: ConfigSource, config_path: str) -> Hashable:
    """Another value as soon as the file says something else; schemas and packages stay."""
    named = (source.scheme(), source.provider, source.path, config_path)
    if source.scheme() != "file":
        return named
    file = (Path(source.path) / source._normalize_file_name(config_path)).stat()
    return *named, file.st_ino, file.st_size, file.st_mtime_ns


def _keep(kept: dict[Hashable, T], key: Hashable, make: Callable[[], T]) -> T:
    """The same object each time; the oldest are forgotten."""
    if key not in kept:
        value = make()
        if len(kept) >= _MOST_KEPT:
            del kept[next(iter(kept))]
        kept[key] = value
    return kept[key]


def _package(found: ConfigResult, path: str) -> str:
    """Where a file's keys belong: below its folder, or where its @package says."""
    named = found.header.get("package") or "_group_"
    folder = path.rpartition("/")[0].replace("/", ".")
    return named.replace("_group_", folder).replace("_global_", "").strip(".")

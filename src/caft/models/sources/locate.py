"""From a model's config to a local folder that is ready to load."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from caft.models.config import EmbeddedModelConfig, HubModelConfig, ModelConfig, TinyModelConfig
from caft.models.sources.cache import write_once
from caft.models.sources.folder import refuse_unloadable_folder


def locate_model(config: ModelConfig) -> Path:
    """A local folder with config, safetensors and tokenizer of the model that `config` names.

    `path` is taken as it is, after cheap checks; hub models are downloaded at their revision, the
    embedded one is exported once, tiny ones are made once. Raises UserError, before torch is
    imported, where that cannot be done.
    """
    if config.path is not None:
        folder = Path(config.path).expanduser().absolute()
        refuse_unloadable_folder(folder, f"{config.group}.path={config.path}")
        return folder
    if isinstance(config, HubModelConfig):
        from caft.models.sources.hub import locate_hub_model

        return locate_hub_model(config)
    return write_once(*_made_here(config))


def find_model(config: ModelConfig) -> Path | None:
    """Like `locate_model`, but fetches and writes nothing: None for a model that is not here yet.

    Raises UserError if it could not be made or loaded either.
    """
    if config.path is not None:
        return locate_model(config)
    if isinstance(config, HubModelConfig):
        from caft.models.sources.hub import cached_snapshot

        return cached_snapshot(config)
    folder, _ = _made_here(config)
    return folder if folder.is_dir() else None


def _made_here(config: ModelConfig) -> tuple[Path, Callable[[Path], None]]:
    """The folder in the cache, and what fills it."""
    if isinstance(config, EmbeddedModelConfig):
        from caft.models.sources import embedded

        return embedded.name_export(config), embedded.export_model
    assert isinstance(config, TinyModelConfig), f"no source for {type(config).__name__}"
    from caft.models.sources import tiny

    return tiny.name_tiny(config), partial(tiny.make_tiny, config)

"""From a model's config to a local folder that is ready to load."""

from __future__ import annotations

from pathlib import Path

from caft.models.config import (
    EmbeddedModelConfig,
    HubModelConfig,
    ModelConfig,
    TinyModelConfig,
)
from caft.models.sources.folder import refuse_unloadable_folder


def locate_model(config: ModelConfig) -> Path:
    """A local folder with config, safetensors and tokenizer of the model that `config` names.

    `path` is taken as it is, after cheap checks; hub models are downloaded at their revision,
    the embedded one is exported once, tiny ones are made once. Raises UserError, before torch
    is imported, where that cannot be done.
    """
    if config.path is not None:
        folder = Path(config.path).expanduser().absolute()
        refuse_unloadable_folder(folder, f"model.path={config.path}")
        return folder
    if isinstance(config, EmbeddedModelConfig):
        from caft.models.sources.embedded import locate_embedded_model

        return locate_embedded_model(config)
    if isinstance(config, TinyModelConfig):
        from caft.models.sources.tiny import locate_tiny_model

        return locate_tiny_model(config)
    assert isinstance(config, HubModelConfig), f"no source for {type(config).__name__}"
    from caft.models.sources.hub import locate_hub_model

    return locate_hub_model(config)


def find_model(config: ModelConfig) -> Path | None:
    """Like `locate_model`, but fetches and writes nothing: None for a model that is not here yet.

    Raises UserError where it could not be made or loaded either.
    """
    if config.path is not None:
        return locate_model(config)
    if isinstance(config, HubModelConfig):
        from caft.models.sources.hub import cached_snapshot

        return cached_snapshot(config)
    if isinstance(config, EmbeddedModelConfig):
        from caft.models.sources.embedded import name_export

        folder = name_export(config)
    else:
        assert isinstance(config, TinyModelConfig), f"no source for {type(config).__name__}"
        from caft.models.sources.tiny import name_tiny

        folder = name_tiny(config)
    return folder if folder.is_dir() else None

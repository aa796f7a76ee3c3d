"""Models of the Hugging Face hub: from the local cache, else downloaded once.

Before a download the hub is asked one cheap question under a hard time limit, so that a missing
network, a gated model or a misspelt id is known within seconds and not after retries.
"""

from __future__ import annotations

import logging
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from caft import hub_refusals
from caft.errors import UserError
from caft.hub_refusals import Repository, refusal_types
from caft.models.config import HubModelConfig
from caft.models.fingerprint import WEIGHT_FILES, model_files
from caft.models.sources.folder import (
    WEIGHTS,
    WEIGHTS_INDEX,
    UnloadableFolderError,
    holds_model,
    refuse_unloadable_folder,
)
from caft.models.time_limit import within

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

REQUEST_SECONDS = 4.0
ANSWER_SECONDS = 5.0

log = logging.getLogger(__name__)


def locate_hub_model(config: HubModelConfig) -> Path:
    """The snapshot folder of `config.id` at `config.revision`; its name is the commit.

    What the local cache holds whole is taken without asking the hub, so it works offline.
    UserError if the hub cannot be reached, or refuses the model.
    """
    folder = cached_snapshot(config)
    if folder is None:
        info = ask_hub(config)
        _refuse_other_weights(config, info)
        folder = _download(config, info)
    try:
        refuse_unloadable_folder(folder, f"{config.group}.id={config.id}")
    except UnloadableFolderError as error:
        raise UserError(
            f"{error.fault}; choose another {config.group}.revision, or give "
            f"{config.group}.path=FOLDER"
        ) from error
    return folder


def ask_hub(config: HubModelConfig) -> ModelInfo:
    """The hub's entry of the model, with file sizes; UserError within some 5 seconds."""
    from huggingface_hub import HfApi

    def ask() -> ModelInfo:
        api = HfApi()
        info = api.model_info(
            config.id, revision=config.revision, timeout=REQUEST_SECONDS, files_metadata=True
        )
        if info.gated:
            api.auth_check(config.id)
        return info

    try:
        # Request timeouts bound neither name resolution nor a server that answers byte by byte.
        return within(ANSWER_SECONDS, ask)
    except refusal_types() as error:
        raise explain_refusal(config, error) from error


def explain_refusal(config: HubModelConfig, error: Exception) -> UserError:
    """One line for the user: what the hub refused, and what to do."""
    asked = Repository(config.group, config.id, config.revision, like="microsoft/phi-4")
    return hub_refusals.explain_refusal(asked, error)


def cached_snapshot(config: HubModelConfig) -> Path | None:
    """The snapshot folder, where the local cache holds it whole; the hub is not asked.

    The hub's client tells a part only where it has kept the list of all files, and other programs
    fetch file by file without one.
    """
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = _snapshot(config, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise explain_refusal(config, error) from error
    return folder if holds_model(folder) else None


def _download(config: HubModelConfig, info: ModelInfo) -> Path:
    wanted = model_files(config)
    size = sum(
        file.size or 0
        for file in info.siblings or []
        if "/" not in file.rfilename and any(fnmatch(file.rfilename, name) for name in wanted)
    )
    log.info("Downloading %s at %s: %.1f GB, once", config.id, info.sha, size / 1e9)
    try:
        return _snapshot(config, local_files_only=False)
    except refusal_types() as error:
        raise explain_refusal(config, error) from error


def _snapshot(config: HubModelConfig, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        config.id,
        revision=config.revision,
        allow_patterns=list(model_files(config)),
        ignore_patterns=["*/*"],  # repositories keep copies in other formats in subfolders
        local_files_only=local_files_only,
    )
    return Path(folder)


def _refuse_other_weights(config: HubModelConfig, info: ModelInfo) -> None:
    names = {file.rfilename for file in info.siblings or []}
    sharded = WEIGHTS_INDEX in names and any(fnmatch(name, WEIGHT_FILES) for name in names)
    if WEIGHTS not in names and not sharded:
        raise UserError(
            f"{config.group}.id={config.id} has no {WEIGHTS} at {config.revision}, nor its shards, "
            "and no other weights are downloaded; choose a revision that has them, or give "
            f"{config.group}.path=FOLDER with a copy in safetensors"
        )

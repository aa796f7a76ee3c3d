"""Models of the Hugging Face hub: from the local cache, else downloaded once.

Before a download the hub is asked one cheap question under a hard time limit, so that a missing
network, a gated model or a misspelt id is known within seconds and not after retries.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from caft.errors import UserError
from caft.models.config import HubModelConfig
from caft.models.fingerprint import model_files
from caft.models.sources.folder import WEIGHTS, WEIGHTS_INDEX, refuse_unloadable_folder
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
        _refuse_pickled_repository(config, info)
        folder = _download(config, info)
    refuse_unloadable_folder(folder, f"{config.group}.id={config.id}")
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
    except _refusal_types() as error:
        raise explain_refusal(config, error) from error


def explain_refusal(config: HubModelConfig, error: Exception) -> UserError:
    """One line for the user: what the hub refused, and what to do."""
    reason = " ".join(str(error).split()).split(" for url ")[0][:160] or type(error).__name__
    unreachable = f"is not in the local cache and the hub does not answer ({reason})"
    refusals = _refusals(config, reason)
    known = ((problem, way) for kind, problem, way in refusals if isinstance(error, kind))
    problem, way_out = next(known, (unreachable, "connect to the network"))
    return UserError(
        f"{config.group}.id={config.id} {problem}; {way_out}, or give a local copy with "
        f"{config.group}.path=FOLDER"
    )


def _refusals(config: HubModelConfig, reason: str) -> Sequence[tuple[type[Exception], str, str]]:
    # Narrow kinds first: a gated repository is also one that is not found, and an HTTP error.
    from huggingface_hub import errors

    at = f"at {config.group}.revision={config.revision}"
    return (
        (errors.GatedRepoError, "is gated", "ask for access on its page and set HF_TOKEN"),
        (
            errors.RepositoryNotFoundError,
            "is not on the hub, or is private",
            "correct the id or set HF_TOKEN",
        ),
        (errors.RevisionNotFoundError, f"has nothing {at}", "give one of its commits"),
        (errors.HFValidationError, "is not a hub id", "give one such as microsoft/phi-4"),
        (
            errors.OfflineModeIsEnabled,
            f"{at} is not in the local cache and HF_HUB_OFFLINE is set",
            "unset it to download the model",
        ),
        (
            errors.HfHubHTTPError,
            f"was refused by the hub ({reason})",
            "check HF_TOKEN and the network, or try again later",
        ),
    )


def _refusal_types() -> tuple[type[Exception], ...]:
    # The hub client renames its HTTP library from release to release; its own module imports it.
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return (http_error, errors.XetDownloadError, errors.HFValidationError, OSError)


def cached_snapshot(config: HubModelConfig) -> Path | None:
    """The snapshot folder, where the local cache holds it whole; the hub is not asked."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return _snapshot(config, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise explain_refusal(config, error) from error


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
    except _refusal_types() as error:
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


def _refuse_pickled_repository(config: HubModelConfig, info: ModelInfo) -> None:
    names = {file.rfilename for file in info.siblings or []}
    if names.isdisjoint({WEIGHTS, WEIGHTS_INDEX}):
        raise UserError(
            f"{config.group}.id={config.id} has no {WEIGHTS} at {config.revision}, and other "
            "formats are not loaded; choose a revision with safetensors, or convert it and give "
            f"{config.group}.path=FOLDER"
        )

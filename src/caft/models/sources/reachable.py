"""Whether the hub answers, and as whom it would be asked; nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from caft.models.time_limit import within

_SECONDS = 3.0


def describe_hub() -> str:
    """Whether the hub answers at once, in words; its host is named and no more of it."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set, so only what is in its cache is used"
    host = urlsplit(constants.ENDPOINT).hostname or "the hub"
    try:
        # The request's own limit does not bound name resolution.
        within(_SECONDS, lambda: get_session().head(constants.ENDPOINT, timeout=_SECONDS))
    except Exception as error:  # the hub client changes its HTTP library from release to release
        return f"{host} does not answer within {_SECONDS:.0f} s ({type(error).__name__})"
    return f"{host} answers"


def hub_cache() -> Path:
    """Where downloaded models and data are kept."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_logged_in() -> bool:
    """Whether `hf auth login` has left a token, so that HF_TOKEN is not needed."""
    from huggingface_hub import constants

    token = Path(constants.HF_TOKEN_PATH)
    return os.access(token, os.R_OK) and token.stat().st_size > 0

"""What the hub says no to, and the way out: one line for a model, a teacher or a data set."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from caft.errors import UserError

_NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Repository(NamedTuple):
    """What was asked for, as the settings of its config `group` name it; `like` is another id."""

    group: str
    id: str
    revision: str
    like: str


def refusal_types() -> tuple[type[Exception], ...]:
    """What the hub's client raises where it is refused, or gets no answer that it can read."""
    # It renames its HTTP library from release to release; its own module imports it.
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return (http_error, errors.XetDownloadError, OSError, ValueError)


def explain_refusal(asked: Repository, error: Exception) -> UserError:
    """One line for the user: what the hub refused, and what to do."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        # It says of any refusal that the connection has to be checked.
        error = error.__cause__
    reason = " ".join(str(error).split()).split(" for url ")[0][:160] or type(error).__name__
    unlisted = (
        f"is not in the local cache and the hub does not answer ({reason})",
        "connect to the network",
    )
    if _is_of_disk(error):
        unlisted = (
            f"cannot be kept in the hub's cache ({reason})",
            "make room and allow writing there, or set HF_HOME to another folder",
        )
    refusals = _refusals(asked, reason)
    known = ((problem, way) for kind, problem, way in refusals if isinstance(error, kind))
    problem, way_out = next(known, unlisted)
    return UserError(
        f"{asked.group}.id={asked.id} {problem}; {way_out}, or give a local copy with "
        f"{asked.group}.path=FOLDER"
    )


def _is_of_disk(error: Exception) -> bool:
    """The system names a file only where one was at fault, and none where an open one was full."""
    if not isinstance(error, OSError):
        return False
    return error.filename is not None or error.errno in _NO_WRITING


def _refusals(asked: Repository, reason: str) -> Sequence[tuple[type[Exception], str, str]]:
    # Narrow kinds first: a gated repository is also one that is not found, and an HTTP error.
    from huggingface_hub import errors

    at = f"at {asked.group}.revision={asked.revision}"
    return (
        (errors.GatedRepoError, "is gated", "ask for access on its page and set HF_TOKEN"),
        (
            errors.RepositoryNotFoundError,
            "is not on the hub, or is private",
            "correct the id or set HF_TOKEN",
        ),
        (errors.RevisionNotFoundError, f"has nothing {at}", "give one of its commits"),
        (errors.HFValidationError, "is not a hub id", f"give one such as {asked.like}"),
        (
            errors.OfflineModeIsEnabled,
            f"{at} is not in the local cache and HF_HUB_OFFLINE is set",
            "unset it to download it",
        ),
        (
            errors.HfHubHTTPError,
            f"was refused by the hub ({reason})",
            "check HF_TOKEN and the network, or try again later",
        ),
    )

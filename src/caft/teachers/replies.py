"""What is asked and what comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caft.teachers.address import same_place
from caft.teachers.config import MaxTokensField, OpenAITeacherConfig
from caft.teachers.words import well_formed


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask: turns of (role, content), and which attempt at it this is, from 0."""

    messages: tuple[tuple[str, str], ...]
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherReply:
    """What came back for one request, or in `failure` why nothing did.

    `usd` and `seconds` are what it cost when it was bought, `from_ledger` says that this was
    before now: then it costs nothing any more. `counted`: the tokens are the server's own count.
    """

    key: str
    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    from_ledger: bool = False
    counted: bool = True
    failure: str = ""


def write_body(request: Request, config: OpenAITeacherConfig) -> dict[str, Any]:
    """The request's JSON body: everything that the reply can depend on beside who is asked."""
    first = request.attempt == 0
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [
            {"role": role, "content": well_formed(text)} for role, text in request.messages
        ],
        config.max_tokens_field.value: config.max_tokens,
    }
    if config.temperature is not None:
        body["temperature"] = config.temperature if first else config.reask_temperature
    if config.top_p is not None:
        body["top_p"] = config.top_p
    if config.seed is not None:
        body["seed"] = config.seed + request.attempt
    return body | config.extra


def token_limits(body: Mapping[str, Any]) -> list[int]:
    """What a body says of the reply's length; `extra` may have put one more number there."""
    values = (body.get(field.value) for field in MaxTokensField)
    return [value for value in values if isinstance(value, int) and not isinstance(value, bool)]


def reply_key(body: Mapping[str, Any], attempt: int, base_url: str) -> str:
    """The ledger's key: sha256 over who is asked, model, messages, sampling settings, attempt."""
    return _digest([same_place(base_url), body, attempt])


def old_reply_key(body: Mapping[str, Any], attempt: int) -> str:
    """The key of ledgers that did not look at who was asked; see `find_replies`."""
    return _digest([body, attempt])


def local_reply_key(body: Mapping[str, Any]) -> str:
    """The key of a reply that nobody was asked for: sha256 over what it depends on."""
    return _digest([body, 0])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

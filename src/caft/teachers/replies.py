"""What is asked and what comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caft.teachers.config import OpenAITeacherConfig


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask: turns of (role, content), and which attempt at it this is, from 0."""

    messages: tuple[tuple[str, str], ...]
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for one request, or in `failure` why nothing did.

    `usd` and `seconds` are what it cost when it was bought, `from_ledger` says that this was
    before now: then it costs nothing any more.
    """

    key: str
    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    from_ledger: bool = False
    failure: str = ""


def write_body(request: Request, config: OpenAITeacherConfig) -> dict[str, Any]:
    """The request's JSON body: everything that the reply can depend on."""
    first = request.attempt == 0
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [{"role": role, "content": text} for role, text in request.messages],
        config.max_tokens_field.value: config.max_tokens,
    }
    if config.temperature is not None:
        body["temperature"] = config.temperature if first else config.reask_temperature
    if config.top_p is not None:
        body["top_p"] = config.top_p
    if config.seed is not None:
        body["seed"] = config.seed + request.attempt
    return body | config.extra


def reply_key(body: Mapping[str, Any], attempt: int) -> str:
    """The ledger's key: sha256 over model, messages, sampling settings and attempt."""
    text = json.dumps([body, attempt], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

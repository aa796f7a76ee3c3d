"""One call to an OpenAI-protocol endpoint. The only file that imports the openai client.

The reply's body is read here, bounded in time and size and parsed by hand: what comes back is
somebody else's text, and servers differ in everything but the outline of the protocol.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from caft.teachers.api_key import ApiKey, is_loopback
from caft.teachers.config import OpenAITeacherConfig

LARGEST_BODY = 4 * 2**20
"""Bytes of a response, beyond which reading stops."""

_ADDRESS_OR_MODEL = (404, 405, 410)
_AGAIN = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A reply that came. Token counts are None where the server did not say."""

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    seconds: float = 0.0


class Remedy(Enum):
    """What helps against a failed call: waiting, leaving this request out, or the user."""

    wait = "wait"
    leave_out = "leave_out"
    ask_user = "ask_user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A call without a reply: why, in words without secrets.

    `maybe_charged` where the server may have done the work; `busy` where it lives and only asks
    for fewer calls; `unreachable` where nobody listens. `retry_after` is how many seconds it asks
    to wait, if it does.
    """

    reason: str
    remedy: Remedy = Remedy.wait
    maybe_charged: bool = False
    busy: bool = False
    unreachable: bool = False
    retry_after: float | None = None


class Endpoint:
    """An open connection to the teacher's endpoint; use it within one event loop and close it."""

    def __init__(self, config: OpenAITeacherConfig, key: ApiKey) -> None:
        self._openai = importlib.import_module("openai")
        self._key, self._timeout = key, config.timeout_seconds
        transport = self._openai.DefaultAsyncHttpxClient
        # A proxy of the environment must not see calls to this very machine.
        http = transport(trust_env=not is_loopback(config.base_url), timeout=self._timeout)
        self._client = self._openai.AsyncOpenAI(
            api_key=key.reveal(),
            base_url=config.base_url,
            max_retries=0,
            timeout=self._timeout,
            http_client=http,
        )
        self._http = _find_http_library(transport)
        for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)  # a line a call, or the headers

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def send(self, body: Mapping[str, Any], key: str) -> Answered | Failed:
        """Send one request, once.

        The ledger's key travels along: a server that knows idempotency charges no repeat.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                raw = await self._exchange(body, key)
        except (TimeoutError, self._openai.APITimeoutError):
            return Failed(reason=f"no reply in {self._timeout:g} s", maybe_charged=True)
        except self._openai.APIStatusError as error:
            return self._read_status(error)
        except (self._openai.APIConnectionError, self._http.HTTPError) as error:
            # The client wraps the library's own errors only until the body begins.
            # A refused connection was never a call; a dropped one may have been.
            refused = "connect" in type(error.__cause__ or error).__name__.lower()
            word = "cannot connect" if refused else "connection dropped"
            return Failed(reason=word, maybe_charged=not refused, unreachable=refused)
        return self._read_body(raw, time.monotonic() - started)

    async def _exchange(self, body: Mapping[str, Any], key: str) -> bytes | None:
        """The response's bytes, or None where there are too many of them."""
        pieces, size = [], 0
        response = await self._client.post(
            "/chat/completions",
            cast_to=self._http.Response,
            body=body,
            options={"headers": {"Idempotency-Key": key}},
            stream=True,  # of bytes: they are ours to count
        )
        try:
            async for piece in response.aiter_bytes():
                size += len(piece)
                if size > LARGEST_BODY:
                    return None
                pieces.append(piece)
        finally:
            await response.aclose()
        return b"".join(pieces)

    def _read_body(self, raw: bytes | None, seconds: float) -> Answered | Failed:
        if raw is None:
            return Answered(text="", finish_reason="too_large", seconds=seconds)
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError):
            return Failed(reason="reply is no JSON", maybe_charged=True)
        if isinstance(data, dict) and isinstance(data.get("error"), dict):
            return self._read_error(data["error"])
        try:
            return read_completion(data, self._key, seconds)
        except (KeyError, IndexError, TypeError, ValueError):
            return Failed(reason="reply is no chat completion", maybe_charged=True)

    def _read_error(self, error: Mapping[str, Any]) -> Failed:
        # Some routers answer 200 and put the upstream's failure into the body.
        code = error.get("code")
        message = self._key.scrub(str(error.get("message", ""))[:200])
        return classify_status(code if isinstance(code, int) else 502, str(code), message, {})

    def _read_status(self, error: Any) -> Failed:
        body = error.body if isinstance(error.body, dict) else {}
        message = self._key.scrub(str(body.get("message") or error.message)[:200])
        return classify_status(
            error.status_code, str(body.get("code")), message, error.response.headers
        )


def read_completion(data: Any, key: ApiKey, seconds: float) -> Answered:
    """A chat completion's first choice. Raises KeyError and its like for anything else."""
    choice = data["choices"][0]
    content = choice["message"].get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str | None):
        raise TypeError(type(content))
    usage = data.get("usage") or {}
    return Answered(
        text=key.scrub(_well_formed(content or "")),
        finish_reason=_well_formed(str(choice.get("finish_reason") or ""))[:40],
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        usd=_charge(usage.get("cost")),
        seconds=seconds,
    )


def classify_status(status: int, code: str, message: str, headers: Mapping[str, str]) -> Failed:
    """What an HTTP error means for us; `message` is the server's, already without secrets."""
    told = " ".join(_well_formed(message).split())
    reason = f"HTTP {status}"
    if status == 401:
        return Failed(reason=f"{reason}: the key was refused", remedy=Remedy.ask_user)
    if status == 402 or "insufficient_quota" in code:
        return Failed(reason=f"{reason}: no credit left: {told}", remedy=Remedy.ask_user)
    if status in _ADDRESS_OR_MODEL:
        return Failed(reason=f"{reason}: {told}", remedy=Remedy.ask_user)
    if status in _AGAIN or status >= 500:
        wait = read_retry_after(headers, time.time())
        late = status in (504, 524)  # a gateway gave up waiting for work that was being done
        return Failed(reason=reason, busy=status == 429, retry_after=wait, maybe_charged=late)
    return Failed(reason=f"{reason}: {told}", remedy=Remedy.leave_out)


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait, from either header or a date; None if it does not."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def _find_http_library(transport: type) -> Any:
    """The HTTP library under the openai client, which has changed its name between versions."""
    libraries = {cls.__module__.split(".")[0] for cls in transport.__mro__}
    (name,) = libraries & {"httpx", "httpx2"}
    return importlib.import_module(name)


def _well_formed(text: str) -> str:
    """JSON may smuggle in half a character; nothing can store it, so it becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 10**9 else None  # type: ignore[operator, return-value]


def _charge(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < 10**6 else None  # type: ignore

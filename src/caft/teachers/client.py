"""One call to an OpenAI-protocol endpoint. The only file that imports the openai client.

The response's body is received here, bounded in time and size; outcome.py interprets it.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from caft.errors import UserError
from caft.teachers.address import read_address
from caft.teachers.api_key import ApiKey
from caft.teachers.config import EndpointConfig
from caft.teachers.outcome import (
    Answered,
    Failed,
    classify_status,
    find_code,
    note_usage,
    read_body,
)
from caft.teachers.words import clean_words, find_words

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")

LARGEST_BODY = 4 * 2**20
"""Bytes of a response, beyond which reading stops."""


class Endpoint:
    """An open connection to the teacher's endpoint; use it within one event loop and close it."""

    def __init__(self, config: EndpointConfig, key: ApiKey) -> None:
        self._openai = importlib.import_module("openai")
        self._key, self._timeout = key, config.timeout_seconds
        transport = self._openai.DefaultAsyncHttpxClient
        self._client = open_client(self._openai.AsyncOpenAI, transport, config, key, max_retries=0)
        self._http = _find_http_library(transport)
        self._unconnected = (
            self._http.ConnectError, self._http.ConnectTimeout, self._http.ProxyError,
        )  # fmt: skip

    def scrub(self, text: str) -> str:
        """`text` without the key."""
        return self._key.scrub(text)

    def _clean(self, message: str) -> str:
        return clean_words(self._key.scrub(message))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def send(self, body: Mapping[str, object], key: str) -> Answered | Failed:
        """Send one request, once.

        The ledger's key is sent as well: a server with idempotency keys does not charge a repeat.
        """
        started = time.monotonic()
        raw = await self._attempt(self._exchange(body, key), self._timeout)
        if isinstance(raw, Failed):
            return raw
        seconds = time.monotonic() - started
        if raw is None:
            return Answered(text="", finish_reason="too_large", seconds=seconds)
        return read_body(raw, self.scrub, seconds)

    async def call(
        self, work: Callable[[AsyncOpenAI], Awaitable[T]], seconds: float | None = None
    ) -> T | Failed:
        """What `work` gets from the client, or why it failed; `seconds` at most.

        Without them only each read and write has the config's timeout.
        """
        try:
            return await self._attempt(work(self._client), seconds)
        # The client does not check what a server sends.
        except (AttributeError, TypeError, json.JSONDecodeError) as error:
            message = self._clean(str(error))
            return Failed(reason="reply cannot be read", message=message, maybe_charged=True)

    async def _attempt(self, work: Awaitable[T], limit: float | None) -> T | Failed:
        try:
            async with asyncio.timeout(limit):
                return await work
        except (TimeoutError, self._openai.APITimeoutError):
            seconds = self._timeout if limit is None else limit
            return Failed(reason=f"no reply in {seconds:g} s", maybe_charged=True)
        except self._openai.APIStatusError as error:
            return self._read_status(error)
        except (self._openai.APIConnectionError, self._http.HTTPError) as error:
            return self._read_connection(error)
        except (self._openai.OpenAIError, self._http.InvalidURL, self._http.StreamError) as error:
            message = self._clean(str(error))
            return Failed(reason="reply cannot be read", message=message, maybe_charged=True)

    async def _exchange(self, body: Mapping[str, object], key: str) -> bytes | None:
        """The response's bytes, or None if there are too many of them."""
        pieces, size = [], 0
        response = await self._client.post(
            "/chat/completions",
            cast_to=self._http.Response,
            body=body,
            options={"headers": {"Idempotency-Key": key}},
            stream=True,  # of bytes: we count them here
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

    def _read_connection(self, error: Exception) -> Failed:
        # The client wraps the library's own errors only until the body begins.
        cause = error.__cause__ or error
        # Without a connection there was no call; a dropped one may have been charged.
        if not isinstance(cause, self._unconnected):
            return Failed(reason="connection dropped", maybe_charged=True)
        why = explain_connection(cause)
        if isinstance(cause, self._http.ProxyError):
            why = f"the proxy says: {self._clean(str(cause))}"
        return Failed(reason=f"cannot connect{why and f' ({why})'}", unreachable=True)

    def _read_status(self, error: APIStatusError) -> Failed:
        try:
            text = error.response.text
        except self._http.StreamError:  # closed before it was read
            text = ""
        # A body without a known key is shown unchanged.
        message = self._clean(find_words(error.body) or text)
        failed = classify_status(
            error.status_code, find_code(error.body), message, error.response.headers
        )
        with suppress(ValueError, RecursionError):
            failed = note_usage(failed, json.loads(text))
        return failed


def open_client(
    kind: Callable[..., T],
    transport: Callable[..., object],
    config: EndpointConfig,
    key: ApiKey,
    **more: object,
) -> T:
    """A client to the config's address; UserError where the environment has wrong settings."""
    _quiet_http()
    address, timeout = read_address(config.base_url or ""), config.timeout_seconds
    # Azure's older addresses have their version in the query, and the key in a header.
    azure = "api-version" in address.query
    try:
        return kind(
            api_key=key.reveal(),
            base_url=address.root,
            default_query=address.query,
            default_headers={"api-key": key.reveal()} if azure else None,
            timeout=timeout,
            # A proxy of the environment must not see calls to this machine.
            http_client=transport(trust_env=not address.loopback, timeout=timeout),
            **more,
        )
    except Exception as error:
        # Settings of proxies and certificates are read here.
        raise UserError(
            f"no connection to {config.base_url} can be set up ({type(error).__name__}: "
            f"{clean_words(key.scrub(str(error)))}); check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, "
            "NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from error


def _quiet_http() -> None:
    """Keep the client's own lines, one a call or the headers, out of the log."""
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def explain_connection(error: BaseException | None) -> str:
    """The cause of a failed connection, if it is more specific than a refused one; else empty."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return f"TLS fails: {str(error.reason).replace('_', ' ').lower()}; is it http:// there?"
        if isinstance(error, socket.gaierror):
            return "its host name is unknown"
        error = error.__cause__ or error.__context__
    return ""


def _find_http_library(transport: type) -> ModuleType:
    """The HTTP library under the openai client, whose name differs between versions."""
    libraries = {cls.__module__.split(".")[0] for cls in transport.__mro__}
    (name,) = libraries & {"httpx", "httpx2"}
    return importlib.import_module(name)

"""A server of models that the user runs, asked for completions of prompts.

Unlike a teacher's endpoint it costs nothing, so that the openai client's own retries are enough.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from caft.errors import UserError
from caft.teachers.address import read_address
from caft.teachers.api_key import read_key
from caft.teachers.client import explain_connection, open_client
from caft.teachers.config import EndpointConfig
from caft.teachers.words import clean_words, find_words

RETRIES = 5
"""Repeats of a completion after 408, 409, 429, 5xx, a timeout or a dropped connection."""

_VERSION_PAGES = ("/version", "/get_server_info", "/props")
_VERSION_KEYS = ("version", "build_info")


class RefusedError(Exception):
    """The server gave an answer that asking again would not change."""


class ModelServer:
    """A connection to a server of the OpenAI protocol; threads may share it."""

    def __init__(self, config: EndpointConfig) -> None:
        self._openai = importlib.import_module("openai")
        self._config, self._key = config, read_key(config, os.environ)
        parts = urlsplit(read_address(config.base_url or "").root)
        self._host = f"{parts.scheme}://{parts.netloc}"
        transport = self._openai.DefaultHttpxClient
        self._client = open_client(self._openai.OpenAI, transport, config, self._key)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def list_models(self) -> list[str]:
        """The names that the server answers to. UserError if it cannot be reached; at once."""
        try:
            found = self._send("GET", "/models", retries=0)
        except RefusedError as error:
            raise self._unusable(f"does not list its models ({error})") from error
        rows = found.get("data")
        rows = rows if isinstance(rows, list) else []
        return [str(row["id"]) for row in rows if isinstance(row, Mapping) and "id" in row]

    def complete(
        self, model: str, prompt: str | Sequence[int], max_tokens: int, **extra: object
    ) -> Mapping[str, object]:
        """A greedy completion as the server sent it. RefusedError if it will never answer this."""
        body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        return self._send("POST", "/completions", {**body, **extra})

    def tokenize(self, model: str, text: str) -> list[int] | None:
        """Token ids of a text without additions, as vLLM and llama.cpp tell them; else None."""
        body = {"model": model, "prompt": text, "content": text, "add_special_tokens": False,
                "add_special": False, "parse_special": True}  # fmt: skip
        try:
            tokens = self._send("POST", f"{self._host}/tokenize", body, retries=0).get("tokens")
        except (RefusedError, UserError):
            return None
        known = isinstance(tokens, list) and all(isinstance(token, int) for token in tokens)
        return tokens if known and isinstance(tokens, list) else None

    def find_version(self) -> str | None:
        """What the server says of its own version, if it says anything."""
        for page in _VERSION_PAGES:
            try:
                found = self._send("GET", f"{self._host}{page}", retries=0)
            except (RefusedError, UserError):
                continue
            if stated := next((found[key] for key in _VERSION_KEYS if found.get(key)), None):
                return clean_words(str(stated))
        return None

    def _send(
        self, method: str, path: str, body: object = None, *, retries: int | None = None
    ) -> Mapping[str, object]:
        client = self._client.with_options(max_retries=RETRIES if retries is None else retries)
        try:
            if method == "GET":
                found = client.get(path, cast_to=object)
            else:
                found = client.post(path, cast_to=object, body=body)
        except self._openai.APIStatusError as error:
            raise self._read_status(error) from error
        except self._openai.APITimeoutError as error:
            wait = f"{self._config.timeout_seconds:g} s"
            raise self._unusable(
                f"gave no reply in {wait}; raise engine.timeout_seconds"
            ) from error
        except self._openai.APIConnectionError as error:
            why = explain_connection(error.__cause__ or error)
            raise self._unusable(f"cannot be reached{why and f' ({why})'}") from error
        except ValueError as error:  # the client does not check what a server sends
            raise RefusedError("its reply is not JSON") from error
        if not isinstance(found, Mapping):
            raise RefusedError("its reply is not JSON")
        return found

    def _read_status(self, error: Exception) -> Exception:
        status = getattr(error, "status_code", 0)
        words = clean_words(self._key.scrub(find_words(getattr(error, "body", None)) or str(error)))
        if status in (401, 403):
            return self._unusable(
                f"refuses the key (HTTP {status}); check {self._config.api_key_env}"
            )
        if status in (408, 409, 429) or status >= 500:
            return self._unusable(f"answers HTTP {status}: {words}")
        return RefusedError(f"HTTP {status}: {words}")

    def _unusable(self, problem: str) -> UserError:
        advice = "" if ";" in problem else "; check engine.base_url and the server's own log"
        return UserError(f"the server at {self._config.base_url} {problem}{advice}")

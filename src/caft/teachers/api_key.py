"""The API key: read from the environment, given to the client, written nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from caft.errors import UserError
from caft.teachers.address import check_proxies, is_loopback
from caft.teachers.config import EndpointConfig

NO_KEY = "no-key-needed"
"""Sent to a loopback endpoint without a key: the protocol requires some text."""

_COVER = "[key]"
_PIECE = 8
"""A run of this many characters of the key is never shown."""
_MASKED = re.compile(
    r"(?P<head>[A-Za-z0-9_-]*)(?P<mask>\*{2,}|[\u2022\u25cf]{2,}|\.{2,}|\u2026|[xX]{4,})"
    r"(?P<tail>[A-Za-z0-9_-]*)"
)


class ApiKey:
    """A key that does not show itself when it is printed, logged or shown in a traceback."""

    def __init__(self, word: str) -> None:
        self._word = word
        count = len(word) - _PIECE + 1 if len(word) >= _PIECE + 4 else 0
        self._pieces = {word[start : start + _PIECE] for start in range(count)}

    def __repr__(self) -> str:
        return "ApiKey(hidden)"

    def reveal(self) -> str:
        """The key itself, for the client only."""
        return self._word

    def scrub(self, text: str) -> str:
        """`text` with [key] for the key, whole, masked (`sk-ab***yz`) or cut (`sk-abcdef...`).

        Servers like to quote it.
        """
        if self._word == NO_KEY:
            return text
        text = _MASKED.sub(self._cover_masked, text.replace(self._word, _COVER))
        return self._cover_pieces(text)

    def _cover_masked(self, found: re.Match[str]) -> str:
        head, tail = found["head"], found["tail"]
        shows_head = len(head) >= 2 and self._word.startswith(head)
        shows_tail = len(tail) >= 2 and self._word.endswith(tail)
        return _COVER if shows_head or shows_tail else found.group()

    def _cover_pieces(self, text: str) -> str:
        present = [piece for piece in self._pieces if piece in text]
        if not present:
            return text
        places = re.compile(f"(?=(?:{'|'.join(map(re.escape, present))}))")
        kept, shown = [], 0
        for found in places.finditer(text):
            if found.start() >= shown:
                kept += [text[shown : found.start()], _COVER]
            shown = found.start() + _PIECE
        return "".join([*kept, text[shown:]])


_NEEDED = {
    "base_url": "the endpoint's address, such as https://api.openai.com/v1 or "
    "http://127.0.0.1:8000/v1",
    "model": "the model's name at the endpoint",
}


def check_address(config: EndpointConfig, also: str = "") -> None:
    """UserError for an endpoint without an address or a model, and for a proxy that is none.

    `also` is what else is to be given then.
    """
    if missing := [name for name in _NEEDED if not getattr(config, name)]:
        names = " and ".join(f"{config.group}.{name}" for name in missing)
        wanted = [*(_NEEDED[name] for name in missing), *filter(None, [also])]
        raise UserError(
            f"{names} {'is' if len(missing) == 1 else 'are'} not set; give {', and '.join(wanted)}"
        )
    if not is_loopback(config.base_url):
        check_proxies(os.environ)


def read_key(config: EndpointConfig, environment: Mapping[str, str]) -> ApiKey:
    """The key from the variable that the config names; UserError if it is needed and missing."""
    word = environment.get(config.api_key_env, "").strip()
    if not word and is_loopback(config.base_url):
        return ApiKey(NO_KEY)
    if not word:
        raise UserError(
            f"the environment variable {config.api_key_env} is empty, and {config.base_url} is "
            f"not on this machine: export the key there, or name another {config.group}.api_key_env"
        )
    if not (word.isascii() and word.isprintable()) or " " in word or len(word) < 4:
        raise UserError(
            f"the environment variable {config.api_key_env} does not hold a key: at least four "
            "printable ASCII characters without spaces"
        )
    return ApiKey(word)

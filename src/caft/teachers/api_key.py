"""The one secret: read from the environment, handed to the client, written nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping

from caft.errors import UserError
from caft.teachers.address import is_loopback
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.proxies import check_proxies
from caft.teachers.secrets import Echoes

NO_KEY = "no-key-needed"
"""What is sent to a loopback endpoint without a key: the protocol wants some word."""


class ApiKey:
    """A key that does not show itself when it is printed, logged or shown in a traceback."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._echoes = None if word == NO_KEY else Echoes(word)

    def __repr__(self) -> str:
        return "ApiKey(hidden)"

    def reveal(self) -> str:
        """The key itself, for the client and for nobody else."""
        return self._word

    def scrub(self, text: str) -> str:
        """`text` without the key, whole, masked or cut: servers like to quote it."""
        return self._echoes.cover(text) if self._echoes else text


def check_endpoint(config: OpenAITeacherConfig) -> None:
    """Refuse an endpoint that cannot be asked: UserError before anything is loaded or sent."""
    check_address(config)
    read_key(config, os.environ)


def check_address(config: OpenAITeacherConfig) -> None:
    """The part of it that needs no key: for those who send nothing."""
    if not config.base_url:
        raise UserError(
            f"{config.group}.base_url is not set; give the endpoint's address, such as "
            "https://api.openai.com/v1 or http://127.0.0.1:8000/v1"
        )
    if not config.model:
        raise UserError(f"{config.group}.model is not set; give the model's name at the endpoint")
    if not is_loopback(config.base_url):
        check_proxies(os.environ)


def read_key(config: OpenAITeacherConfig, environment: Mapping[str, str]) -> ApiKey:
    """The key from the variable that the config names; UserError where one is needed."""
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

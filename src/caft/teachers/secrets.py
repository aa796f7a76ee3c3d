"""Recognises secrets by name, by form, or as a value of the environment. Pure.

A config is written down in many places, so what looks like a secret is refused there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from caft.errors import UserError

_LEAST, _SURE = 6, 16
"""Characters of a secret with letters and digits, and of any other."""

_ASSIGNED = re.compile(r"([A-Za-z_]\w*)['\"]?\s*[:=]")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = frozenset({
    "password", "passwd", "passphrase", "pwd", "secret", "secrets", "credential", "credentials",
    "bearer", "cookie", "cookies", "auth", "oauth", "xauth", "authorization", "authorisation",
    "authentication", "apikey", "apitoken", "accesskey", "accesstoken", "authtoken", "authkey",
    "signature", "sig", "jwt", "sas",
})  # fmt: skip
_HARMLESS_TOKENS = frozenset({
    "eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop", "end", "start", "begin", "special",
    "first", "last", "next", "new", "per", "image", "audio", "think", "thinking", "reasoning",
    "max", "min", "ignore", "add", "skip",
})  # fmt: skip
_HARMLESS_KEYS = frozenset({"cache", "sort", "primary", "foreign", "group", "partition"})
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk)[-_](?=[A-Za-z_-]*\d)[\w-]{8,}|hf_[A-Za-z0-9]{16,}"
    r"|gsk_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[a-z]-[\w-]{10,}|AIza[\w-]{30,}"
    r"|AKIA[A-Z0-9]{12,}|nvapi-[\w-]{16,}|eyJ[\w-]{8,}\.[\w-]{8,}|[Bb]earer\s+\S{8,})"
)
_VARIABLE_WORDS = _SECRET_WORDS | frozenset({"key", "keys", "token", "tokens", "pass"})


def is_secret_name(name: str) -> bool:
    """Whether the name of a setting, a header or a part of a query denotes a secret.

    `max_tokens`, `eos_token` and `prompt_cache_key` do not; `token`, `X-Auth` and `api_key` do.
    """
    words = ["", "", *(word.casefold() for word in _WORDS.findall(name))]
    before, last = words[-2:]
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or (last == "token" and before not in _HARMLESS_TOKENS)
        or (last == "key" and before not in _HARMLESS_KEYS)
    )


def has_key_shape(text: str) -> bool:
    """Whether a text holds something in the form of a provider's key, such as sk-..."""
    return bool(_SHAPES.search(text))


def environment_secrets(environment: Mapping[str, str], *names: str) -> dict[str, str]:
    """Variables that hold secrets, by name: those named like secrets, and `names`.

    Short and simple words do not count: `postgres` may be a password, but that is no reason to
    refuse a path. Paths do not count either: SSH_AUTH_SOCK.
    """
    called_so = {
        name: value.strip()
        for name, value in environment.items()
        if name in names or not _VARIABLE_WORDS.isdisjoint(name.casefold().split("_"))
    }
    return {name: value for name, value in called_so.items() if _is_strong(value)}


def find_held(texts: Iterable[tuple[str, str]], secrets: Mapping[str, str]) -> tuple[str, str]:
    """The first (place, variable) of (place, text) pairs with a secret; two empty texts if none."""
    for place, text in texts:
        for variable, secret in secrets.items():
            if secret in text:
                return place.replace(secret, "..."), variable
    return "", ""


def refuse_environment_secrets(value: object, environment: Mapping[str, str]) -> None:
    """UserError, without repeating it, where nested tables hold what the environment keeps secret.

    Whatever a config says is written down: in the run's folder, in summary.json, by trackers.
    """
    place, variable = find_held(texts_in(value), environment_secrets(environment))
    if variable:
        raise UserError(
            f"{place or 'the command line'} holds what the environment variable {variable} holds, "
            "and a config is written down; leave it out: keys are read from the environment alone"
        )


def refuse_secret_variables(words: Iterable[str]) -> None:
    """UserError if overrides of a command line set environment variables named like secrets.

    Hydra writes them into the run's folder.
    """
    for word in words:
        named = _ASSIGNED.findall(word) if "hydra.job.env_set" in word else []
        if name := next((each for each in named if is_secret_name(each)), ""):
            raise UserError(
                f"hydra.job.env_set sets {name}, and what it holds is written down; export {name} "
                "in the shell instead"
            )


def texts_in(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested tables and lists, names among them, with its dotted place."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield place, str(name)
            yield from texts_in(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner, place)
    elif isinstance(value, str):
        yield place, value


def _is_strong(value: str) -> bool:
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    is_path = value.startswith(("/", "~", "./", "../"))
    return not is_path and (len(value) >= _SURE or (len(value) >= _LEAST and mixed))

"""Proxies of the environment that nobody could call through, found before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from caft.errors import UserError

_NAMES = ("http_proxy", "https_proxy", "all_proxy")
_SCHEMES = ("http", "https", "socks5", "socks5h")


def check_proxies(environment: Mapping[str, str]) -> None:
    """UserError, without repeating the value, for a proxy variable that holds no proxy.

    A value may hold a password, and is not shown.
    """
    for variable in (name for word in _NAMES for name in (word, word.upper())):
        value = environment.get(variable, "")
        problem = _find_problem(value) if value else ""
        if problem:
            raise UserError(
                f"the environment variable {variable} {problem}; give http://HOST:PORT, or unset it"
            )


def _find_problem(value: str) -> str:
    if any(sign.isspace() or not sign.isprintable() for sign in value):
        return "holds a space or a sign that cannot be printed, which no proxy's address has"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        return "holds no proxy's address"
    if parts.scheme not in _SCHEMES:
        return f"names a proxy that is none of {', '.join(_SCHEMES)}"
    if not host or port == 0:
        return "holds no proxy's address"
    if parts.scheme.startswith("socks") and find_spec("socksio") is None:
        return "names a SOCKS proxy, which needs: pip install 'httpx[socks]'"
    return ""

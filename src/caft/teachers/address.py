"""Addresses of endpoints, and of the proxies on the way to them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import parse_qsl, urlsplit

from caft.errors import UserError

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Address:
    """`root` is the address without its query, `query` is sent with every call."""

    root: str
    query: dict[str, str]
    loopback: bool


def read_address(base_url: str) -> Address:
    """ValueError, whose text repeats nothing of the address, if it is not a valid endpoint."""
    if any(sign.isspace() or not sign.isprintable() for sign in base_url):
        raise ValueError("holds a space or a character that cannot be printed")
    try:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        host.encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise ValueError("names no host that could exist") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must start with http:// or https:// and name a host")
    with suppress(ValueError):
        if parts.port != 0:
            root = parts._replace(query="", fragment="").geturl()
            return Address(root, dict(parse_qsl(parts.query)), _is_loopback(host))
    raise ValueError("has a port that is not a number from 1 to 65535")


def same_place(base_url: str) -> str:
    """One spelling for each address: host in lower case, no slash at the end, no query.

    Text that is not an address stays unchanged.
    """
    try:
        address = read_address(base_url)
    except ValueError:
        return base_url
    parts = urlsplit(address.root)
    return parts._replace(netloc=parts.netloc.casefold()).geturl().rstrip("/")


def is_loopback(base_url: str | None) -> bool:
    """Whether an address is on this machine; False for text that is not an address."""
    try:
        return read_address(base_url or "").loopback
    except ValueError:
        return False


def check_proxies(environment: Mapping[str, str]) -> None:
    """UserError, without repeating the value, for a proxy variable that holds no proxy.

    The value may hold a password.
    """
    for variable in (name for word in _PROXIES for name in (word, word.upper())):
        value = environment.get(variable, "")
        if problem := value and _find_proxy_problem(value):
            raise UserError(
                f"the environment variable {variable} {problem}; give http://HOST:PORT, or unset it"
            )


def _find_proxy_problem(value: str) -> str:
    scheme, _, rest = value.rpartition("://")
    try:
        read_address(f"http://{rest}")
    except ValueError as error:
        return str(error)
    if scheme and scheme not in _PROXY_SCHEMES:
        return f"names a proxy that is none of {', '.join(_PROXY_SCHEMES)}"
    if scheme.startswith("socks") and find_spec("socksio") is None:
        return "names a SOCKS proxy, which needs: pip install 'httpx[socks]'"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

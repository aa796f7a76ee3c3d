"""An endpoint's address: what of it is refused, and what of it says who answers. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """`root` is the address without its query, `query` what goes with every call."""

    root: str
    host: str
    query: dict[str, str]
    loopback: bool


def read_address(base_url: str) -> Address:
    """ValueError, in words that repeat nothing of the address, where nobody could be called."""
    if any(sign.isspace() or not sign.isprintable() for sign in base_url):
        raise ValueError("holds a space or a sign that cannot be printed")
    try:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        host.encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise ValueError("names no host that could exist") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must start with http:// or https:// and name a host")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("has a port that is no number from 1 to 65535") from error
    if port == 0:
        raise ValueError("has a port that is no number from 1 to 65535")
    root = parts._replace(query="", fragment="").geturl()
    return Address(root, host, dict(parse_qsl(parts.query)), _is_loopback(host))


def same_place(base_url: str) -> str:
    """Spelt as all who mean the same place would: case of the host, a slash at the end, no query.

    What is no address stays as it is.
    """
    try:
        address = read_address(base_url)
    except ValueError:
        return base_url
    parts = urlsplit(address.root)
    return parts._replace(netloc=parts.netloc.casefold()).geturl().rstrip("/")


def is_loopback(base_url: str | None) -> bool:
    """Whether an address is this machine; what is no address is not."""
    try:
        return read_address(base_url or "").loopback
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

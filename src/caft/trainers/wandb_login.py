"""Where Weights & Biases looks for a server and a login, without importing it.

The same places in the same order as its own client: the environment, .netrc for that server, the
settings files that `wandb login` writes. Nothing is sent anywhere, and no key is ever shown.
"""

from __future__ import annotations

import configparser
import netrc
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from caft.errors import UserError
from caft.trainers.config import WandbLoggerConfig, WandbMode

MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
"""Values of WANDB_MODE; the last two are old names of offline and online."""
OFFLINE = ("offline", "disabled", "dryrun")
"""Those that send nothing."""
_THEIR_SERVER = "https://api.wandb.ai"
_SHORTEST_SECRET = 40


def wandb_mode(mode: WandbMode) -> str:
    """`auto` is online with a key or a login, else offline: a run never stops to ask."""
    if mode is not WandbMode.auto:
        return mode.name
    chosen = os.environ.get("WANDB_MODE") or _read_setting("mode")
    if chosen:
        return chosen
    return "online" if _has_login() else "offline"


def check_wandb(config: WandbLoggerConfig) -> None:
    """UserError if W&B would refuse the environment's settings, or ask for a login."""
    named = os.environ.get("WANDB_MODE")
    if named is not None and named not in MODES:
        raise UserError(
            f"WANDB_MODE is {named!r}; give online, offline or disabled, or unset it and use "
            "logger.mode="
        )
    mode = wandb_mode(config.mode)
    if mode not in MODES:
        raise UserError(f"W&B's settings file says mode = {mode}; give {', '.join(MODES[:3])}")
    if mode in OFFLINE:
        return
    server = find_server()
    try:
        parts = urlsplit(server)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UserError(
            f"W&B's server is {server!r}; give WANDB_BASE_URL as https://HOST or "
            "https://HOST:PORT, or unset it"
        )
    if not _has_login():
        raise UserError(
            f"W&B is set to online and there is no login for {server}; run wandb login, set "
            "WANDB_API_KEY, or give logger.mode=offline"
        )
    key, place = next(_find_keys(), ("", ""))
    problem = _find_problem(key) if key else ""
    if problem:
        raise UserError(
            f"the W&B key in {place} {problem}; copy it again from {server}/authorize, "
            "or give logger.mode=offline"
        )


def _find_problem(key: str) -> str:
    """Why no server accepts the key; "" if one may. Keys of private servers have a prefix."""
    if re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", key):
        return ""
    secret = key.split("-", 1)[-1]
    if not re.fullmatch(r"[\w-]+", secret):
        return "has characters other than letters, digits, dashes and underscores"
    if len(secret) < _SHORTEST_SECRET:
        return f"has {len(secret)} characters and needs {_SHORTEST_SECRET} or more"
    return ""


def find_server() -> str:
    """The URL of W&B's server: the public one, or the user's own."""
    named = os.environ.get("WANDB_BASE_URL") or _read_setting("base_url") or _THEIR_SERVER
    return named.rstrip("/")


def _has_login() -> bool:
    return bool(os.environ.get("WANDB_IDENTITY_TOKEN_FILE")) or any(_find_keys())


def _find_keys() -> Iterator[tuple[str, str]]:
    """Keys for the server, the one in force first, each with the place it comes from."""
    if key := os.environ.get("WANDB_API_KEY"):
        yield key, "WANDB_API_KEY"
    path = _netrc_path()
    if key := _read_netrc(path):
        yield key, str(path)
    if key := _read_setting("api_key"):
        yield key, "W&B's settings file"


def _netrc_path() -> Path:
    if named := os.environ.get("NETRC"):
        return _expand(named)
    usual, other = Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()
    return other if other.exists() and not usual.exists() else usual


def _expand(named: str) -> Path:
    """As W&B does it: the home of somebody unknown here stays as it is written."""
    return Path(os.path.expanduser(named))


def _read_netrc(path: Path) -> str | None:
    try:
        entry = netrc.netrc(str(path)).authenticators(urlsplit(find_server()).netloc)
    except (OSError, ValueError, netrc.NetrcParseError):
        return None
    return (entry[2] or None) if entry else None


def _read_setting(name: str) -> str | None:
    """From the settings of the current folder, else from the user's own."""
    root = _expand(os.environ.get("WANDB_DIR") or ".")
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    files = [root / ".wandb" / "settings", root / "wandb" / "settings"]
    for path in (*files, _expand(folder) / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, ValueError, configparser.Error):
            continue
        if value := parser.get("default", name, fallback="").strip():
            return value
    return None

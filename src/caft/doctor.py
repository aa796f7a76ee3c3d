"""One screen about this machine: what is here, and where a run computes.

caft doctor

Names of keys are printed, what they hold never.
"""

from __future__ import annotations

import os
import platform
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from caft.console import tell
from caft.errors import count_of
from caft.models.config import ModelConfig
from caft.models.sources.cache import cache_folder
from caft.models.sources.reachable import describe_hub, hub_cache, is_logged_in
from caft.program import PACKAGE, install_hint, list_needs
from caft.store.config import StoreConfig
from caft.subcommands import make_parser, run_command
from caft.threads import allowed_cores, set_up_threads, usable_cores
from caft.trainers.config import TrainerConfig

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_WIDEST = 80
_LABEL = 11
_FRAMEWORKS = ("torch", "transformers", "peft", "pytorch-lightning")
_FOR_DEVELOPERS = ("benchmarks", "dev", "mutation")
_OTHER_KEYS = ("HF_TOKEN", "CAFT_LOCAL_KEY")


def main(arguments: Sequence[str] = (), *, program: str = "caft doctor") -> int:
    """Print the screen; 0, whatever is missing, since most of it is needed by few runs."""
    return run_command(make_parser(program, __doc__), arguments, _print_all)


def _print_all(_: object) -> None:
    set_up_threads()
    for label, describe in _PARTS.items():
        _print(label, _or_why_not(describe))


def _print(label: str, text: str) -> None:
    inner = " " * (_LABEL + 1)
    for number, line in enumerate(text.splitlines()):
        first = inner if number else f"{label:<{_LABEL}} "
        tell(
            textwrap.fill(
                line,
                _WIDEST,
                initial_indent=first,
                subsequent_indent=inner,
                break_on_hyphens=False,
            )
        )


def _or_why_not(describe: Callable[[], str]) -> str:
    """What `describe` returns; a machine that needs a doctor may fail at any of it."""
    try:
        return describe()
    except Exception as error:
        return f"not known: {type(error).__name__}: {error}"


def _describe_versions() -> str:
    return f"{metadata.version(PACKAGE)}, Python {platform.python_version()}"


def _describe_frameworks() -> str:
    needed = {need.name: need for need in list_needs(PACKAGE, "")}
    return ", ".join(f"{name} {_describe_version(needed.get(name), name)}" for name in _FRAMEWORKS)


def _describe_version(need: Requirement | None, name: str) -> str:
    found = _version(name)
    if found is None:
        return "is missing"
    if need is None or need.specifier.contains(found, prereleases=True):
        return found
    return f"{found} (caft needs {need.specifier})"


def _describe_device() -> str:
    from caft.models.loading import name_dtype
    from caft.trainers.devices import pick_device

    device = pick_device(TrainerConfig())
    any_model = ModelConfig(kind="any", name="any", id="any")
    return f"{_describe_accelerators(device)}, {name_dtype(any_model, device)}"


def _describe_accelerators(device: str) -> str:
    if device != "cuda":
        return device
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"cuda: {', '.join(names)}"


def _describe_cores() -> str:
    import torch

    return (
        f"{usable_cores()} of {os.cpu_count()} may be used ({allowed_cores()} allowed), "
        f"{count_of(torch.get_num_threads(), 'thread')}"
    )


def _describe_disk(folder: Path) -> str:
    """The free space where `folder` is, or would be made."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free / 1e9
    return f"{_shorten(folder)}: {free:.0f} GB free" + ("" if there == folder else ", not made yet")


def _shorten(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def name_keys(environment: Mapping[str, str]) -> list[str]:
    """The names of variables that hold a key of a teacher, of a tracker or of the hub."""
    return sorted(
        name
        for name, value in environment.items()
        if value.strip() and (name.endswith("_API_KEY") or name in _OTHER_KEYS)
    )


def _describe_keys() -> str:
    found = name_keys(os.environ)
    if "HF_TOKEN" not in found and is_logged_in():
        found.append("a login of the hub")
    return ", ".join(found) or "none set; a teacher reads OPENAI_API_KEY, the hub HF_TOKEN"


def _describe_extras() -> str:
    """The extras that are whole, and the commands that install the others."""
    offered = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    missing = {
        extra: list(missing_packages(PACKAGE, extra))
        for extra in offered
        if extra not in _FOR_DEVELOPERS
    }
    whole = ", ".join(extra for extra, needs in missing.items() if not needs)
    others = [f"{extra}: {install_hint(extra)}" for extra, needs in missing.items() if needs]
    return "\n".join([f"installed: {whole or 'none'}", *others])


def missing_packages(package: str, extra: str) -> Iterator[str]:
    """The packages that `package[extra]` needs and that are not here, or not in that version."""
    for need in list_needs(package, extra):
        found = _version(need.name)
        if found is None or not need.specifier.contains(found, prereleases=True):
            yield need.name
        else:
            for inner in need.extras:
                yield from missing_packages(need.name, inner)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


_PARTS: dict[str, Callable[[], str]] = {
    PACKAGE: _describe_versions,
    "with": _describe_frameworks,
    "device": _describe_device,
    "cores": _describe_cores,
    "store": lambda: _describe_disk(StoreConfig().folder),
    "models": lambda: _describe_disk(cache_folder(None)),
    "hub's cache": lambda: _describe_disk(hub_cache()),
    "hub": describe_hub,
    "keys": _describe_keys,
    "extras": _describe_extras,
}

"""How CAFT is there: as a project with its sources, or as an installed package with a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

COMMAND = PACKAGE = "caft"


def find_project() -> Path | None:
    """The project's folder where this is its src/caft; None where the package is installed."""
    sources = Path(__file__).resolve().parents[1]
    return sources.parent if sources.name == "src" and (sources.parent / "conf").is_dir() else None


def name_command() -> str:
    """How a user starts a run, for advice: `python train.py` in the project, else `caft`."""
    installed = find_project() is None or Path(sys.argv[0]).name == COMMAND
    return COMMAND if installed else "python train.py"


def name_version() -> str:
    """`caft 0.1.0`."""
    return f"{COMMAND} {metadata.version(PACKAGE)}"


def install_hint(extra: str) -> str:
    """The command that installs an extra's packages, by their own names.

    CAFT is not on PyPI, where its name is that of another project.
    """
    try:
        needs = [*list_needs(PACKAGE, extra)]
    except metadata.PackageNotFoundError:  # sources that were never installed
        return f"pip install -e '.[{extra}]'"
    for need in needs:
        need.marker = None
    return shlex.join(["pip", "install", *map(str, needs)])


def list_needs(package: str, extra: str) -> Iterator[Requirement]:
    """What the extra adds to an installed package; with no extra, what it always needs."""
    from packaging.requirements import Requirement

    for need in map(Requirement, metadata.requires(package) or []):
        always, asked = (
            need.marker is None or need.marker.evaluate({"extra": each}) for each in ("", extra)
        )
        if asked and not (extra and always):
            yield need

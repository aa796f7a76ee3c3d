"""How CAFT is there: as a project with its sources, or as an installed package with a command."""

from __future__ import annotations

import sys
from pathlib import Path

COMMAND = "caft"


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
    from importlib.metadata import version

    return f"{COMMAND} {version('caft')}"

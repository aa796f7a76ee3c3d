"""The folder of YAML files, and the options that each of its groups has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from caft.program import find_project
from caft.run_config import RunConfig

OWN_CONFIGS = "caft"
"""A user's folder of YAML files, in the current folder: read as `--config-dir` is, if it exists."""

BESIDE_A_RUN = ("experiment", "multirun_sweeps")
"""Groups whose files set values anywhere; they are no part of RunConfig, and may be left out."""


def find_conf() -> Path:
    """The folder of YAML files: inside an installed package, or next to src/ in the project."""
    return (find_project() or Path(__file__).resolve().parents[1]) / "conf"


def list_groups() -> dict[str, list[str]]:
    """Every group's options by its name, in the order of a run's config."""
    names = [*(field.name for field in dataclasses.fields(RunConfig)), *BESIDE_A_RUN]
    found = {name: list_options_of(name) for name in names}
    return {name: options for name, options in found.items() if options}


def list_options_of(group: str) -> list[str]:
    """The options of one group, in alphabetical order; none where there is no such group."""
    conf = find_conf()
    folder = (conf.parent if group == "multirun_sweeps" else conf) / group
    return sorted(file.stem for file in folder.glob("*.yaml")) if group else []


def explain_no_option(group: str, value: str) -> str:
    """Why a group cannot be given null, nothing or a number, and what it can be given."""
    options = ", ".join(list_options_of(group))
    if group in BESIDE_A_RUN:
        return f"{group}={value} chooses nothing; leave it out, or give one of {options}"
    if value in ("", "null"):
        return f"{group} is {value or 'empty'}, and a run needs one; give {group}= one of {options}"
    return f"invalid value for {group}: {value}; give one of {options}"

"""The jobs that a sweep's overrides and sweeper list, and where a search would begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from caft.errors import UserError
from caft.hydra_bridge.composing import build_run_config, without_hydra
from caft.hydra_bridge.overrides import type_overrides
from caft.run_config import RunConfig


@dataclass(frozen=True, slots=True)
class JobOverrides:
    """A job's overrides: all of them, and those that it does not share with all others."""

    all: tuple[str, ...]
    own: tuple[str, ...]


def parse(hydra: Hydra, overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra reads them."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parsed: list[Override] = parser.parse_overrides(list(overrides))
    return parsed


def sweeps(hydra: Hydra, overrides: Sequence[str]) -> bool:
    """Whether one of them has several values."""
    return any(each.is_sweep_override() for each in parse(hydra, overrides))


def searches(master: DictConfig) -> bool:
    """Whether the sweeper chooses jobs while it runs, so that they are not known beforehand."""
    return not str(master.hydra.sweeper._target_).endswith(f".{BasicSweeper.__name__}")


def list_jobs(hydra: Hydra, master: DictConfig) -> list[JobOverrides]:
    """The overrides of every job: each of the sweeper's cases times the grid.

    Where a key is given twice the later one wins: cases, then params, then the command line.
    """
    if searches(master):
        return []
    sweeper = master.hydra.sweeper
    params = [f"{key}={value}" for key, value in sweeper.params.items()]
    grid = _list_axes(hydra, [*params, *master.hydra.overrides.task])
    jobs: list[JobOverrides] = []
    for case in sweeper.cases or [[]]:
        of_case = _list_axes(hydra, case)
        axes = of_case | grid
        varying = {key for key, choices in axes.items() if len(choices) > 1}
        varying |= of_case.keys() - grid.keys()
        for chosen in product(*axes.values()):
            own = (each for key, each in zip(axes, chosen, strict=True) if key in varying)
            jobs.append(JobOverrides(chosen, tuple(own)))
    return jobs


def _list_axes(hydra: Hydra, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The overrides that each key takes in turn; of a key given twice the later ones."""
    parsed = parse(hydra, type_overrides(overrides))
    return {override.get_key_element(): _choices(override) for override in parsed}


def _choices(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line} has no end of values; list them, as in seed=1,2,3, or search "
            "with a sweeper such as hydra/sweeper=optuna"
        )
    key = override.get_key_element()
    return type_overrides([f"{key}={value}" for value in override.sweep_string_iterator()])


def first_trial(hydra: Hydra, master: DictConfig) -> RunConfig:
    """A search's config with a value of every axis, since alone it may lack what they give.

    Of a list it is the first, of an interval the middle: an end may be what is not allowed. Params
    of another form than overrides are left out.
    """
    given = (master.hydra.sweeper.get("params") or {}).items()
    params = [f"{key}={value}" for key, value in given if not OmegaConf.is_config(value)]
    parsed = parse(hydra, type_overrides([*params, *master.hydra.overrides.task]))
    first = {each.get_key_element(): _first_choice(each) for each in parsed}
    composed = hydra.config_loader.load_sweep_config(master, [*first.values()])
    return build_run_config(without_hydra(composed))


def _first_choice(override: Override) -> str:
    if override.is_interval_sweep():
        start, end = override.value().start, override.value().end
        middle = (start + end) // 2 if isinstance(start, int) else (start + end) / 2
        return f"{override.get_key_element()}={middle}"
    return _choices(override)[0]

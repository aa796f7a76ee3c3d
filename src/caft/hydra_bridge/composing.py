"""Overrides of a command line in, a typed RunConfig out: Hydra composes, we check every key."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from hydra import version as hydra_version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from caft.dials import shown
from caft.errors import UserError, did_you_mean
from caft.hydra_bridge.config_loader import Loader
from caft.hydra_bridge.deprecated import refuse_former_kind
from caft.hydra_bridge.error_text import explain, explain_reference
from caft.hydra_bridge.further import expand_further, type_further
from caft.hydra_bridge.groups import OWN_CONFIGS, find_conf, list_options_of
from caft.hydra_bridge.help_text import describe_options
from caft.hydra_bridge.overrides import create_resolved, type_overrides
from caft.program import name_command
from caft.run_config import KINDS, ONE_KIND, RunConfig
from caft.sweeps.run_folders import name_job
from caft.teachers.secrets import refuse_environment_secrets

# Our file completes the launcher's schema of that name: meant so, and nothing for a user to do.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/submitit_slurm' is validated against")

OWN_SWEEPER = "cases"
"""Our sweeper's own name, because a launcher's worker registers Hydra's `basic` again."""

JOB_FOLDER = "${caft_job_folder:${hydra.job.override_dirname}}"
"""The `hydra.sweep.subdir` of conf/config.yaml."""


@cache
def register_schemas() -> None:
    """One typed node a kind: `schema/dataset/arithmetic`, or `schema/tuning` for a single kind.

    Group files name theirs first, so that unknown keys and wrong types cannot be composed.
    """
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name=OWN_SWEEPER, node=SweeperConfig)
    for group, kinds in KINDS.items():
        for kind, schema in kinds.items():
            store.store(group=f"schema/{group}", name=kind, node=schema)
    for group, schema in ONE_KIND.items():
        store.store(group="schema", name=group, node=schema)


@dataclasses.dataclass(kw_only=True)
class SweeperConfig:
    """A grid, as Hydra's basic sweeper has it, times a list of `cases`.

    A case is a list of overrides that go together, such as [split=random, split.match=tokens];
    each makes a job for every combination of `params`.
    """

    _target_: str = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    params: dict[str, str] = dataclasses.field(default_factory=dict)
    cases: list[list[str]] = dataclasses.field(default_factory=list)


def start_hydra(args: argparse.Namespace) -> Hydra:
    """Hydra with our conf/, our schemas and our resolvers."""
    if args.config_path or args.experimental_rerun:
        refuse_flags("--config-path and --experimental-rerun are not offered; --config-dir is")
    args.config_name = args.config_name or "config"
    hydra_version.setbase("1.3")
    register_schemas()
    OmegaConf.register_new_resolver("caft_root", lambda: str(find_conf().parent), replace=True)
    OmegaConf.register_new_resolver("caft_command", name_command, replace=True)
    OmegaConf.register_new_resolver("caft_options", describe_options, replace=True)
    OmegaConf.register_new_resolver("caft_job_folder", name_job_folder, replace=True)
    search_path = create_config_search_path(str(find_conf()))
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        raise UserError(f"--config-dir {args.config_dir} is not a folder; give one that exists")
    # Searched in this order, after our own.
    for folder in (args.config_dir, OWN_CONFIGS):
        if folder is not None and Path(folder).is_dir():
            where = f"file://{Path(folder).absolute()}"
            search_path.prepend("command-line", where, SearchPathQuery(provider="schema"))
    hydra = Hydra("run", Loader(search_path))
    GlobalHydra.instance().initialize(hydra)
    # Replaces Hydra's own, which is registered when Hydra looks for its plugins.
    ConfigStore.instance().store(group="hydra/sweeper", name="basic", node=SweeperConfig)
    return hydra


def find_job_folder(composed: DictConfig, config: RunConfig) -> str:
    """What `hydra.sweep.subdir` gives; `config`, built from `composed`, is not built again."""
    raw = OmegaConf.to_container(composed.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    if raw["subdir"] == JOB_FOLDER:
        return name_job(composed.hydra.job.override_dirname, config)
    return str(composed.hydra.sweep.subdir)


def name_job_folder(overrides: str, *, _root_: DictConfig) -> str:
    """A sweep job's folder, below the sweep's: its distinguishing overrides, and its digest."""
    return name_job(overrides, build_run_config(without_hydra(_root_)))


def read_question(runtime: DictConfig) -> str:
    """The question in the header of the chosen multirun_sweeps/ file; "" if there is none.

    `runtime` is Hydra's record of what it chose and of where it looked, in that order.
    """
    name = f"multirun_sweeps/{runtime.choices.get('multirun_sweeps')}.yaml"
    files = (Path(each.path, name) for each in runtime.config_sources if each.schema == "file")
    file = next(filter(Path.is_file, files), None)
    if file is None:
        return ""
    header = re.search(r"# Question: (.*?)\n# Axes:", file.read_text(encoding="utf-8"), re.DOTALL)
    return " ".join(header[1].replace("\n#", "").split()) if header else ""


def compose_overrides(
    hydra: Hydra, name: str, overrides: Sequence[str], mode: RunMode
) -> DictConfig:
    """The config with Hydra's own part in it."""
    try:
        composed: DictConfig = hydra.compose_config(name, list(overrides), mode)
        return composed
    except (OmegaConfBaseException, UserError):
        raise
    except OverflowError as error:  # OmegaConf's own, which names the setting in its second line
        named = re.search(r"full_key: (\S+)", str(error))
        raise UserError(
            f"{named[1] if named else 'a number'} has more digits than a number can have; give a "
            "smaller one"
        ) from error
    except TypeError as error:  # OmegaConf's own, for a list's member that has a name
        raise _name_member(error, overrides) from error
    except ValueError as error:  # Hydra's own, for a group that is given a number or nothing
        raise UserError(f"{error}; name one option a group, such as model=tiny") from error


def _name_member(error: TypeError, overrides: Sequence[str]) -> Exception:
    found = re.match(r"Index '(.+)' \(\w+\) is not an int", str(error))
    if found is None:
        return error
    given = [each for each in overrides if found[1] in each.partition("=")[0].split(".")]
    return UserError(
        f"{found[1]} names no member of a list, whose members have numbers from 0; give one "
        f"instead (in {' '.join(given)})"
    )


def without_hydra(composed: DictConfig) -> DictConfig:
    """The part of the config that a run depends on."""
    config = composed.copy()
    with open_dict(config):
        del config["hydra"]
    return config


def build_run_config(composed: DictConfig) -> RunConfig:
    """The typed config, after one more merge into the schemas.

    Composing alone lets `+foo=1` through; this merge does not. Raises UserError or an OmegaConf
    error, which `explain` turns into one line. `composed` gets all settings of further sets: what
    is kept of a job must need no other file.
    """
    typed = _merge_schemas(tuple(_find_schema(group, composed) for group in (*KINDS, *ONE_KIND)))
    values = _look_up_references(composed)
    refuse_environment_secrets(values, os.environ)
    resolved = create_resolved(values)
    if further := expand_further(composed):
        resolved.evaluation.also = [*type_further(further)]
    built = OmegaConf.to_object(OmegaConf.merge(typed, resolved))
    assert isinstance(built, RunConfig)
    return built


@cache
def _merge_schemas(schemas: tuple[type, ...]) -> DictConfig:
    """The run's schema with one of each group. For merging into a copy: callers share it."""
    typed: DictConfig = OmegaConf.structured(RunConfig)
    for group, schema in zip((*KINDS, *ONE_KIND), schemas, strict=True):
        typed[group] = OmegaConf.structured(schema)
    return typed


def _look_up_references(composed: DictConfig) -> object:
    """The config with every ${...} replaced; UserError for unknown and circular references."""
    try:
        return OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException:
        for path, owner, key, text in _references(composed, ""):
            try:
                owner[key]
            except MissingMandatoryValue:
                continue
            except OmegaConfBaseException as error:
                raise UserError(explain_reference(path, text, error)) from error
        raise


def _references(node: Any, path: str) -> Iterator[tuple[str, Any, Any, str]]:
    """The place of each ${...}, the node that holds it, its key there, and the text itself."""
    raw = OmegaConf.to_container(node, resolve=False)
    named: Any = raw.items() if isinstance(raw, dict) else enumerate(raw or ())
    for key, value in named:
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict | list):
            yield from _references(node[key], inner)
        elif OmegaConf.is_interpolation(node, key):
            yield inner, node, key, str(value)


def _find_schema(group: str, composed: DictConfig) -> type:
    node = composed.get(group)
    if not isinstance(node, DictConfig):
        options = list_options_of(group)
        advice = f"leave out ~{group} or {group}=null"
        if options:
            advice = f"give {group}= one of {', '.join(options)}"
        raise UserError(f"no {group} is chosen; {advice}")
    if group in ONE_KIND:
        return ONE_KIND[group]
    kinds, kind = KINDS[group], node.get("kind")
    refuse_former_kind(group, kind)
    if kind not in kinds:
        raise UserError(
            f"{group}.kind is {shown(kind)!r}; there are {', '.join(kinds)}"
            f"{did_you_mean(str(kind), kinds)}"
        )
    composed_as = OmegaConf.get_type(node)
    if composed_as in kinds.values() and composed_as is not kinds[kind]:
        raise UserError(
            f"{group}.kind={kind} cannot change the kind of {group} alone; "
            f"choose an option of that kind with {group}="
        )
    return kinds[kind]


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """The typed config that `overrides` make, as `main` would pass it to a run.

    For tests, benchmarks and notebooks. Raises UserError, with the command line's text.
    """
    args = get_args_parser().parse_args([])
    args.overrides = [*overrides]
    try:
        return compose_words(args)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error)) from error


def compose_words(args: argparse.Namespace) -> RunConfig:
    """What the command line of a single run composes to."""
    overrides = [*type_overrides(args.overrides), "hydra.mode=RUN"]
    try:
        composed = compose_overrides(start_hydra(args), args.config_name, overrides, RunMode.RUN)
        return build_run_config(without_hydra(composed))
    finally:
        GlobalHydra.instance().clear()


def refuse_flags(message: str) -> NoReturn:
    """For a command line that cannot be read."""
    raise UserError(f"{message}; see {name_command()} --help")

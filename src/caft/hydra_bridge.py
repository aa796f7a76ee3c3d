"""The only file that imports Hydra or OmegaConf: words of a command line in, typed RunConfig out.

Hydra composes, we do the rest: every job is composed and typed before the first one runs, so a
misspelt key in the last job of a sweep costs a second and not a night. Whatever is wrong with
the input ends in one line on standard error and exit status 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import logging
import os
import re
import textwrap
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

from hydra import version as hydra_version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import MarkedYAMLError, YAMLError

import caft
from caft.errors import UserError
from caft.exit_status import DONE, OUR_FAULT, USER_MUST_ACT, say, watch_signals
from caft.run_config import KINDS, ONE_KIND, RunConfig, RunContext

Run = Callable[[RunConfig, RunContext], int]
"""What is run once a config is valid; returns an exit status."""

GLOBAL_GROUPS = ("experiment", "multirun_sweeps")
"""Groups whose files set values anywhere; they are no part of RunConfig."""

outcome = logging.getLogger("caft.outcome")
outcome.addHandler(logging.NullHandler())


def main(run: Run, arguments: Sequence[str] | None = None) -> int:
    """Compose, type and `run` what the command line asks for; returns the exit status.

    A sweep returns the highest status of its jobs, and a job that fails does not stop the others.
    """
    with watch_signals() as caught:
        try:
            return _obey(run, arguments)
        except (UserError, HydraException, OmegaConfBaseException, YAMLError) as error:
            say(explain(error))
            return USER_MUST_ACT
        except (KeyboardInterrupt, SystemExit):
            if caught.number is None:
                raise
            outcome.error("stopped by %s", caught.name)
            say(f"stopped by {caught.name}; the same command goes on from the finished stages")
            return caught.status
        except OSError as error:  # a job's own errors end in _run_job
            say(f"cannot write the output folder: {error}; give another hydra.run.dir")
            return USER_MUST_ACT
        except Exception:
            traceback.print_exc()
            return OUR_FAULT
        finally:
            GlobalHydra.instance().clear()


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """The typed config that `overrides` make, as `main` would hand it to a run.

    For tests, benchmarks and notebooks. Raises UserError, in the words of the command line.
    """
    try:
        hydra = _start_hydra(get_args_parser().parse_args([]))
        composed = _compose(hydra, "config", [*overrides, "hydra.mode=RUN"], RunMode.RUN)
        return build_run_config(_without_hydra(composed))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error)) from error
    finally:
        GlobalHydra.instance().clear()


def _obey(run: Run, arguments: Sequence[str] | None) -> int:
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(arguments)
    hydra = _start_hydra(args)
    if _show(hydra, args, parser):
        return DONE
    task = partial(_run_job, run)
    if args.multirun:
        overrides = [*args.overrides, "hydra.mode=MULTIRUN"]
        _check_sweep(hydra, args.config_name, overrides)
        returned = hydra.multirun(args.config_name, task, overrides)
        return _worst([job.return_value for batch in returned or [] for job in batch])
    overrides = [*args.overrides, "hydra.mode=RUN"]
    _check_run(hydra, args.config_name, overrides)
    return int(hydra.run(args.config_name, task, overrides).return_value)


def _refuse_flags(message: str) -> NoReturn:
    raise UserError(f"{message}; see python train.py --help")


def _worst(statuses: Sequence[int]) -> int:
    failed = [status for status in statuses if status]
    if failed:
        say(f"{len(failed)} of {len(statuses)} jobs of this sweep failed")
    return max(failed, default=DONE)


# --- Hydra, with our conf/ and schemas ---------------------------------------------------------


def find_conf() -> Path:
    """The folder of YAML files: inside an installed package, or beside src/ in the project."""
    package = Path(caft.__file__).resolve().parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parents[1] / "conf"


@cache
def register_schemas() -> None:
    """One typed node a kind, as `schema/dataset/arithmetic` or, of one kind only, `schema/tuning`.

    Group files name theirs first, and then an unknown key or a wrong type cannot be composed.
    """
    store = ConfigStore.instance()
    for group, kinds in KINDS.items():
        for kind, schema in kinds.items():
            store.store(group=f"schema/{group}", name=kind, node=schema)
    for group, schema in ONE_KIND.items():
        store.store(group="schema", name=group, node=schema)


def _start_hydra(args: argparse.Namespace) -> Hydra:
    if args.config_path or args.experimental_rerun:
        _refuse_flags("--config-path and --experimental-rerun are not offered; --config-dir is")
    args.config_name = args.config_name or "config"
    hydra_version.setbase("1.3")
    register_schemas()
    OmegaConf.register_new_resolver("caft_root", lambda: str(find_conf().parent), replace=True)
    OmegaConf.register_new_resolver("caft_options", list_options, replace=True)
    OmegaConf.register_new_resolver("caft_job_folder", name_job_folder, replace=True)
    search_path = create_config_search_path(str(find_conf()))
    if args.config_dir is not None:
        folder = Path(args.config_dir).absolute()
        if not folder.is_dir():
            raise UserError(f"--config-dir {args.config_dir} is no folder; give one that exists")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    return Hydra.create_main_hydra2("run", search_path)


def _show(hydra: Hydra, args: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    name, overrides = args.config_name, args.overrides
    if args.help:
        hydra.app_help(name, parser, args)
    elif args.hydra_help:
        hydra.hydra_help(name, parser, args)
    elif args.cfg:
        build_run_config(_without_hydra(_compose(hydra, name, overrides, RunMode.RUN)))
        hydra.show_cfg(name, overrides, args.cfg, args.package, args.resolve)
    elif args.info:
        hydra.show_info(args.info, name, overrides)
    elif args.shell_completion:
        hydra.shell_completion(name, overrides)
    else:
        return False
    return True


def list_options() -> str:
    """Every group with its options, wrapped to 80 columns, as the help prints it."""
    conf = find_conf()
    fields = [field.name for field in dataclasses.fields(RunConfig)]
    folders = [conf / name for name in (*fields, "experiment")]
    folders.append(conf.parent / "multirun_sweeps")
    return "\n".join(_option_line(folder) for folder in folders if folder.is_dir())


def _option_line(folder: Path) -> str:
    options = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
    return textwrap.fill(
        options, 79, initial_indent=f"  {folder.name + '=':<18}", subsequent_indent=" " * 20
    )


def name_job_folder(number: int, overrides: str) -> str:
    """A sweep job's folder, one level below the sweep's: its number and what sets it apart."""
    words = re.sub(r"[^\w.=+-]+", "_", overrides).strip("_")[:80]
    return f"{number}_{words}" if words else str(number)


# --- Checks before anything runs ---------------------------------------------------------------


def _check_run(hydra: Hydra, name: str, overrides: Sequence[str]) -> None:
    composed = _compose(hydra, name, overrides, RunMode.RUN)
    if OmegaConf.select(composed, "hydra.sweeper.params"):
        raise UserError("a sweep is asked for and -m is missing; give python train.py -m ...")
    build_run_config(_without_hydra(composed))
    refuse_unusable_folder(Path(composed.hydra.run.dir))


def _check_sweep(hydra: Hydra, name: str, overrides: Sequence[str]) -> None:
    master = _compose(hydra, name, overrides, RunMode.MULTIRUN)
    folder = Path(master.hydra.sweep.dir)
    refuse_unusable_folder(folder)
    for number, words in enumerate(_list_jobs(hydra, master)):
        composed = hydra.config_loader.load_sweep_config(master, words)
        with open_dict(composed):
            composed.hydra.job.num = number
        build_run_config(_without_hydra(composed))
        refuse_unusable_folder(folder / composed.hydra.sweep.subdir)


def _compose(hydra: Hydra, name: str, overrides: Sequence[str], mode: RunMode) -> DictConfig:
    try:
        composed: DictConfig = hydra.compose_config(name, list(overrides), mode)
        return composed
    except OmegaConfBaseException:
        raise
    except ValueError as error:  # Hydra's own, for a group that is given a number or nothing
        raise UserError(f"{error}; name one option a group, such as model=tiny") from error


def _list_jobs(hydra: Hydra, master: DictConfig) -> list[list[str]]:
    """The overrides of every job. A sweeper that searches decides as it goes: none are known."""
    if not master.hydra.sweeper._target_.endswith(f".{BasicSweeper.__name__}"):
        return []
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    words = parser.parse_overrides([*params, *master.hydra.overrides.task])
    jobs: list[list[str]] = BasicSweeper.split_arguments(words, max_batch_size=None)[0]
    return jobs


def _without_hydra(composed: DictConfig) -> DictConfig:
    config = composed.copy()
    with open_dict(config):
        del config["hydra"]
    return config


def refuse_unusable_folder(folder: Path) -> None:
    """Raises UserError where a run cannot write, or would write over a finished one."""
    if (folder / "summary.json").exists():
        raise UserError(f"{folder} holds a finished run; give another output folder, or none")
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(
            f"the output folder {folder} cannot be made, since {nearest} is a file; "
            "give another hydra.run.dir, or hydra.sweep.dir with -m"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"the output folder {folder} cannot be made, since {nearest} is not writable; "
            "give another hydra.run.dir, or hydra.sweep.dir with -m"
        )


# --- From a composed config to a typed one -----------------------------------------------------


def build_run_config(composed: DictConfig) -> RunConfig:
    """The typed config, after one more merge into the schemas.

    Composing alone lets `+foo=1` through; this merge does not. Raises UserError or an OmegaConf
    error, which `explain` puts into a line.
    """
    typed = OmegaConf.structured(RunConfig)
    for group in (*KINDS, *ONE_KIND):
        typed[group] = OmegaConf.structured(_find_schema(group, composed))
    values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    built = OmegaConf.to_object(OmegaConf.merge(typed, values))
    assert isinstance(built, RunConfig)
    return built


def _find_schema(group: str, composed: DictConfig) -> type[Any]:
    node = composed.get(group)
    if not isinstance(node, DictConfig):
        options = sorted(file.stem for file in (find_conf() / group).glob("*.yaml"))
        raise UserError(f"no {group} is chosen; give {group}= one of {', '.join(options)}")
    if group in ONE_KIND:
        return ONE_KIND[group]
    kinds, kind = KINDS[group], node.get("kind")
    if kind not in kinds:
        raise UserError(
            f"{group}.kind is {kind!r}; there are {', '.join(kinds)}"
            f"{_did_you_mean(str(kind), kinds)}"
        )
    composed_as = OmegaConf.get_type(node)
    if composed_as in kinds.values() and composed_as is not kinds[kind]:
        raise UserError(
            f"{group}.kind={kind} cannot change a {group} of another kind; "
            f"choose an option of that kind with {group}="
        )
    return kinds[kind]


def _run_job(run: Run, composed: DictConfig) -> int:
    """One job, in the folder that Hydra made for it. Returns its exit status, raises no error."""
    job = HydraConfig.get()
    context = RunContext(
        folder=Path(job.runtime.output_dir),
        overrides=tuple(job.overrides.task),
        config_yaml=OmegaConf.to_yaml(composed, resolve=True),
        in_sweep=job.mode == RunMode.MULTIRUN,
    )
    whose = f"job {context.folder.name}: " if context.in_sweep else ""
    try:
        return run(build_run_config(composed), context)
    except UserError as error:
        outcome.error("%s", error)
        say(f"{whose}{error}")
        return USER_MUST_ACT
    except Exception as error:
        outcome.exception("a fault of ours")
        say(
            f"{whose}a fault of ours: {type(error).__name__}: {error}; "
            f"its traceback is in {context.folder / 'run.log'}"
        )
        return OUR_FAULT


# --- Errors of Hydra and OmegaConf in one line -------------------------------------------------


def explain(error: BaseException) -> str:
    """What was given, what is allowed and, where a name is near, what was probably meant."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, HydraException):
        return _explain_hydra(error)
    if isinstance(error, OmegaConfBaseException):
        return _explain_omegaconf(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, is no YAML: {error.problem}"
    return _first_line(error)


def _explain_hydra(error: HydraException) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException):
        return f"{_explain_omegaconf(cause)}{_where(str(error))}"
    match error:
        case MissingConfigException():
            return _explain_choice(error)
        case OverrideParseException():
            return (
                f"cannot read {error.override!r}; write key=value, and put quotes round a value "
                "with commas, spaces or brackets"
            )
        case ConfigCompositionException() if "--multirun" in str(error):
            return f"{_first_line(error)}; add -m to sweep over it, or write a list as [a,b]"
    return _first_line(error)


def _explain_omegaconf(error: OmegaConfBaseException) -> str:
    match error:
        case ConfigKeyError() | ConfigAttributeError():
            return _explain_key(error)
        case MissingMandatoryValue():
            return f"{error.full_key} is missing; give {error.full_key}=..."
        case ValidationError() if error.full_key:
            return f"{error.full_key} is wrong: {_first_line(error)}"
    return _first_line(error)


def _explain_choice(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not error.options:
        return _first_line(error)
    options = sorted(error.options)
    return f"no {group} {option!r}; there are {', '.join(options)}{_did_you_mean(option, options)}"


def _explain_key(error: OmegaConfBaseException) -> str:
    full_key, key, parent = str(error.full_key), str(error.key), error.parent_node
    names = [str(name) for name in parent if name != "hydra"] if parent is not None else []
    owner, _, _ = full_key.rpartition(".")
    if not owner:
        names = sorted({*names, *(field.name for field in dataclasses.fields(RunConfig))})
        names += GLOBAL_GROUPS
    hint = _did_you_mean(key, names) or _name_other_kinds(owner, key)
    if owner and error.object_type is dict:
        hint += f"; to add a name of your own put + before it: +{full_key}=..."
    return (
        f"there is no setting {full_key}; {owner or 'a run'} has {', '.join(names) or 'none'}{hint}"
    )


def _name_other_kinds(group: str, key: str) -> str:
    """Which kinds of the group do have the key: `teacher.base_url` while teacher=worked."""
    kinds = KINDS.get(group, {}).items()
    having = [kind for kind, schema in kinds if key in schema.__dataclass_fields__]
    return f"; {group} of kind {' or '.join(having)} has it" if having else ""


def _where(message: str) -> str:
    in_file = re.match(r"In '([^']+)'", message)
    in_word = re.match(r"Error merging override (.+)", message)
    if in_file:
        return f" (in {in_file[1]}.yaml)"
    return f" (in {in_word[1]})" if in_word else ""


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""

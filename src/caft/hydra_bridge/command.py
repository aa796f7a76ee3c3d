"""The command line of train.py: flags, one run, many jobs, and how each of them ends."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from caft.console import tell_error
from caft.errors import UserError
from caft.hydra_bridge.composing import (
    build_run_config,
    compose_overrides,
    compose_words,
    refuse_flags,
    start_hydra,
    without_hydra,
)
from caft.hydra_bridge.error_text import explain, name_references
from caft.hydra_bridge.further import expand_further
from caft.hydra_bridge.jobs import Start, start_child
from caft.hydra_bridge.listing import sweeps
from caft.hydra_bridge.nodes import follow, is_follower, leading, refuse_sweep_of_launcher
from caft.hydra_bridge.overrides import type_overrides
from caft.hydra_bridge.run_log import check_logging
from caft.hydra_bridge.running import Run, end_on_signals, explain_refused_write, guard
from caft.hydra_bridge.suggestions import refuse_dashes
from caft.hydra_bridge.sweep import dry_context, run_sweep
from caft.program import name_command, name_version
from caft.run_config import RunContext
from caft.signals import DONE, OUR_FAULT, USER_MUST_ACT, Caught, end_if_interrupted, say
from caft.subcommands import refuse_empty_words
from caft.sweeps.run_folders import refuse_finished_folder, refuse_unwritable_folder
from caft.teachers.secrets import refuse_environment_secrets, refuse_secret_variables


def main(run: Run, arguments: Sequence[str] | None = None, *, start: Start = start_child) -> int:
    """Compose, type and `run` what the command line asks for; returns the exit status.

    With -m every job goes to `start`, by default a fresh process a job.
    """
    # In a locale without UTF-8, Python passes arguments with surrogates, which cannot be written to
    # a file.
    given = [os.fsencode(argument).decode("utf-8", "replace") for argument in sys.argv[1:]]
    words = given if arguments is None else arguments
    if is_follower():
        return follow(lambda: compose_words(_read_words(words)[1]))
    with leading():
        return end_on_signals(
            partial(_answer, run, words, start),
            "what is bought and finished is kept, and the same command goes on",
        )


def _answer(run: Run, arguments: Sequence[str], start: Start, caught: Caught) -> int:
    try:
        return _run_command(run, arguments, start, caught)
    except (UserError, HydraException, OmegaConfBaseException, YAMLError) as error:
        end_if_interrupted()
        say(explain(error) + name_references(error, arguments))
        return USER_MUST_ACT
    except Exception as error:  # a run's own errors end in guard
        end_if_interrupted()
        refused = explain_refused_write(error, Path("outputs"))
        if refused is not None:
            say(refused)
            return USER_MUST_ACT
        tell_error(traceback.format_exc())
        return OUR_FAULT
    finally:
        GlobalHydra.instance().clear()


def _read_words(
    arguments: Sequence[str],
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Hydra's parser, and what the words say to it."""
    refuse_empty_words(arguments)
    parser = get_args_parser()
    refuse_dashes(arguments, parser._option_string_actions)
    parser.error = refuse_flags
    parser.allow_abbrev = False
    for action in parser._actions if "--version" in arguments else ():
        if "--version" in action.option_strings:
            action.version = name_version()  # type: ignore[attr-defined]
    return parser, parser.parse_intermixed_args(arguments)


def _run_command(run: Run, arguments: Sequence[str], start: Start, caught: Caught) -> int:
    parser, args = _read_words(arguments)
    refuse_environment_secrets(args.overrides, os.environ)  # of Hydra's own settings, too
    refuse_secret_variables(args.overrides)
    args.overrides = type_overrides(args.overrides)
    hydra = start_hydra(args)
    if _show(hydra, args, parser):
        return DONE
    if args.multirun:
        refuse_sweep_of_launcher()
        overrides = [*args.overrides, "hydra.mode=MULTIRUN"]
        return run_sweep(hydra, args.config_name, overrides, run=run, start=start, caught=caught)
    return _run_once(run, hydra, args.config_name, [*args.overrides, "hydra.mode=RUN"])


def _run_once(run: Run, hydra: Hydra, name: str, overrides: list[str]) -> int:
    composed = compose_overrides(hydra, name, overrides, RunMode.RUN)
    if composed.hydra.runtime.choices.get("multirun_sweeps"):
        raise UserError(f"this is a sweep, and -m is missing; give {name_command()} -m ...")
    if not composed.hydra.run.dir.strip():
        raise UserError("hydra.run.dir is empty; leave it out, or give a folder")
    expand_further(composed)
    config = build_run_config(without_hydra(composed))
    folder = Path(composed.hydra.run.dir)
    if config.only_shows:
        check_logging(composed, folder, opens=False)
        configure_log(composed.hydra.hydra_logging, composed.hydra.verbose)
        return run(config, dry_context(composed))
    refuse_finished_folder(folder)
    refuse_unwritable_folder(folder)
    check_logging(composed, folder)
    # Composed again, the run would take as long to start once more, and its folder, which is named
    # after the time, would not be the one that was checked.
    hydra.config_loader.load_configuration = lambda **_: composed.copy()  # type: ignore[method-assign]
    try:
        return int(hydra.run(name, partial(_run_in_folder, run), overrides).return_value)
    except OSError as error:  # Hydra's own: a run's errors end in guard
        raise UserError(
            f"the output folder {folder} cannot be written: {error.strerror or error}; make room "
            "there, or give another hydra.run.dir"
        ) from error


def _run_in_folder(run: Run, composed: DictConfig) -> int:
    """One run, in the folder that Hydra made for it. Returns its exit status, raises no error."""
    job = HydraConfig.get()
    context = RunContext(
        folder=Path(job.runtime.output_dir),
        overrides=tuple(job.overrides.task),
        config_yaml=OmegaConf.to_yaml(composed, resolve=True),
    )
    return guard(run, lambda: build_run_config(composed), context)


class _WhenShown(partial[str]):
    """A text that is made only where a template has a place for it."""

    def __str__(self) -> str:
        return self()


def _show(hydra: Hydra, args: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Whether a flag asked for help or for the config instead of a run; it is printed."""
    name, overrides = args.config_name, args.overrides
    if args.help:
        # Hydra copies every config for each group that it lists, and our help lists them by itself.
        listed = partial(_WhenShown, hydra.format_config_groups)
        hydra.format_config_groups = listed  # type: ignore[method-assign,assignment]
        hydra.app_help(name, parser, args)
    elif args.hydra_help:
        hydra.hydra_help(name, parser, args)
    elif args.multirun and (args.cfg or args.info) and sweeps(hydra, overrides):
        refuse_flags("--cfg and --info show one run: give one value a setting")
    elif args.cfg:
        _show_config(hydra, args)
    elif args.info:
        hydra.show_info(args.info, name, overrides)
    elif args.shell_completion:
        try:
            hydra.shell_completion(name, overrides)
        except ValueError as error:
            raise UserError("give --shell-completion install=bash, or uninstall=bash") from error
    else:
        return False
    return True


def _show_config(hydra: Hydra, args: argparse.Namespace) -> None:
    name, overrides, part, package = args.config_name, args.overrides, args.cfg, args.package
    build_run_config(without_hydra(compose_overrides(hydra, name, overrides, RunMode.RUN)))
    if part == "hydra" and args.resolve:  # it refers to the rest
        part, package = "all", package or part
    try:
        with redirect_stderr(StringIO()):  # a line of Hydra's own, before it exits
            hydra.show_cfg(name, overrides, part, package, args.resolve)
    except SystemExit as error:
        raise UserError(
            f"--package {package} names nothing that --cfg {args.cfg} shows; give a part of that, "
            "or leave it out"
        ) from error

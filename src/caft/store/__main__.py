"""List what the store holds, or prune it.

caft store [--path FOLDER] list
caft store [--path FOLDER] prune --days 30
    Removes what is older than that. What a run makes or reads is never pruned,
    nor the ledger of teacher replies that were paid for.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from caft.console import tell
from caft.errors import UserError, count_of
from caft.signals import DONE, USER_MUST_ACT, say
from caft.store.artifacts import TRASH, Store
from caft.store.config import StoreConfig
from caft.store.manifest import UNFINISHED
from caft.store.pruning import Pruned, age_days, count_bytes, prune
from caft.subcommands import make_parser, run_command


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m caft.store") -> int:
    """The command line; returns its exit status."""
    parser = make_parser(program, __doc__)
    parser.add_argument(
        "--path", type=Path, default=StoreConfig().folder, help="the store; default: %(default)s"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parts = {name: commands.add_parser(name) for name in ("list", "prune")}
    parts["prune"].add_argument("--days", type=_read_days, required=True)
    for part in parts.values():  # behind the command as well; else the one before it counts
        part.add_argument("--path", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return run_command(parser, arguments, _do)


def _do(given: argparse.Namespace) -> int:
    if not given.path.is_dir():
        raise UserError(f"there is no store at {given.path}; name its folder with --path")
    store = Store(given.path, reads_only=given.command == "list")
    if given.command == "prune":
        return _print_pruned(prune(store, given.days))
    _print_artifacts(store)
    return DONE


def _print_artifacts(store: Store) -> None:
    """One line for each artefact, oldest first, and the total; then what no run can use."""
    artifacts = store.artifacts()
    for artifact in artifacts:
        tell(
            f"{artifact.stage:9} {artifact.fingerprint}  {age_days(artifact.folder):6.1f} days  "
            f"{_megabytes([artifact.folder]):8.1f} MB  made in {artifact.seconds:.0f} s"
        )
    sound = [artifact.folder for artifact in artifacts]
    tell(f"{count_of(len(sound), 'artefact')}, {_megabytes(sound):.1f} MB")
    damaged = [folder for folder in store.folders("") if folder not in sound]
    _print_paths("damaged, made again by the next run that needs it", damaged, named=True)
    _print_paths("damaged, set aside", store.damaged(), named=True)
    _print_paths("interrupted", store.folders(UNFINISHED))
    _print_paths("left of an interrupted pruning", store.folders(TRASH))


def _print_pruned(pruned: Pruned) -> int:
    """What was removed and what stayed; the exit status."""
    made, begun = len(pruned.artifacts), len(pruned.unfinished)
    parts = [count_of(made, "artefact"), count_of(begun, "interrupted one")]
    if pruned.damaged:
        parts.append(count_of(len(pruned.damaged), "damaged one"))
    tell(f"removed {', '.join(parts[:-1])} and {parts[-1]}, {pruned.bytes / 1e6:.1f} MB")
    for folder in pruned.in_use:
        tell(f"kept {folder.parent.name}/{folder.name}: a run uses it")
    for failure in pruned.failed:
        say(f"cannot be removed: {failure}; remove it yourself")
    return USER_MUST_ACT if pruned.failed else DONE


def _print_paths(what: str, paths: Sequence[Path], *, named: bool = False) -> None:
    for path in paths if named else ():
        tell(f"{path.parent.name:9} {path.name}  {age_days(path):6.1f} days  {what}")
    if paths:
        tell(f"{len(paths)} {what}, {_megabytes(paths):.1f} MB")


def _megabytes(paths: Sequence[Path]) -> float:
    return sum(map(count_bytes, paths)) / 1e6


def _read_days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not math.isfinite(days) or days < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days; give 0 or more")
    return days


if __name__ == "__main__":
    sys.exit(main())

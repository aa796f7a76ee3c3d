"""List what the store holds, or prune it.

caft store list [FOLDER]
caft store prune [FOLDER] --days 30 [--dry-run]
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

_PARTS = {
    "list": "Lists finished stages with their age and size, and what takes room besides.",
    "prune": "Removes old work: finished stages, which a run that needs them computes again, "
    "interrupted ones with their checkpoints, and damaged ones. Runs, their reports and adapters "
    "are not in the store; what a run makes or reads stays, and so do replies that were paid for.",
}
_LEFT = "left of an interrupted pruning"


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m caft.store") -> int:
    """The command line; returns its exit status."""
    parser = make_parser(program, __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    parts = {
        name: commands.add_parser(name, help=text.partition(".")[0], description=text)
        for name, text in _PARTS.items()
    }
    for part in (parser, *parts.values()):
        part.add_argument("--path", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for part in parts.values():
        part.set_defaults(called=part.prog)
        part.add_argument(
            "folder",
            metavar="FOLDER",
            type=Path,
            nargs="?",
            help=f"the store; default: {StoreConfig().folder}",
        )
    pruning = parts["prune"]
    pruning.add_argument(
        "--days", type=_read_days, required=True, help="how long nothing was written in what goes"
    )
    pruning.add_argument(
        "--dry-run", action="store_true", help="name what would go, and remove nothing"
    )
    return run_command(parser, arguments, _do)


def _do(given: argparse.Namespace) -> int:
    named = getattr(given, "path", None)
    if given.folder and named:
        raise UserError(f"two stores are named, {given.folder} and {named}; leave out one of them")
    folder = given.folder or named or StoreConfig().folder
    if not folder.is_dir():
        raise UserError(f"there is no store at {folder}; name its folder: {given.called} FOLDER")
    store = Store(folder, reads_only=given.command == "list")
    if given.command == "prune":
        return _print_pruned(prune(store, given.days, dry=given.dry_run))
    _print_artifacts(store)
    return DONE


def _print_artifacts(store: Store) -> None:
    """One line for each artefact, oldest first, and the total; then what no run can use."""
    artifacts = store.artifacts()
    for artifact in artifacts:
        tell(f"{_describe(artifact.folder)}  made in {artifact.seconds:.0f} s")
    sound = [artifact.folder for artifact in artifacts]
    tell(f"{count_of(len(sound), 'artefact')}, {_megabytes(sound):.1f} MB")
    damaged = [folder for folder in store.folders("") if folder not in sound]
    _print_paths("damaged, made again by the next run that needs it", damaged, named=True)
    _print_paths("damaged, set aside", store.damaged(), named=True)
    _print_paths("interrupted", store.folders(UNFINISHED))
    _print_paths(_LEFT, store.folders(TRASH))


def _print_pruned(pruned: Pruned) -> int:
    """What was removed, or would be, and what stayed; the exit status."""
    paths = (*pruned.artifacts, *pruned.unfinished, *pruned.damaged, *pruned.left)
    for path in paths if pruned.dry else ():
        tell(_describe(path))
    made, begun = len(pruned.artifacts), len(pruned.unfinished)
    parts = [count_of(made, "artefact"), count_of(begun, "interrupted one")]
    if pruned.damaged:
        parts.append(count_of(len(pruned.damaged), "damaged one"))
    if pruned.left:
        parts.append(f"{len(pruned.left)} {_LEFT}")
    done = "would remove" if pruned.dry else "removed"
    tell(f"{done} {', '.join(parts[:-1])} and {parts[-1]}, {pruned.bytes / 1e6:.1f} MB")
    for folder in pruned.in_use:
        tell(f"kept {folder.parent.name}/{folder.name}: a run uses it")
    for failure in pruned.failed:
        say(f"cannot be removed: {failure}; remove it yourself")
    return USER_MUST_ACT if pruned.failed else DONE


def _print_paths(what: str, paths: Sequence[Path], *, named: bool = False) -> None:
    for path in paths if named else ():
        tell(f"{_describe(path)}  {what}")
    if paths:
        tell(f"{len(paths)} {what}, {_megabytes(paths):.1f} MB")


def _describe(path: Path) -> str:
    days, size = age_days(path), _megabytes([path])
    return f"{path.parent.name:9} {path.name}  {days:6.1f} days  {size:8.1f} MB"


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

"""List what the store holds, or prune it.

python -m caft.store [--path FOLDER] list
python -m caft.store [--path FOLDER] prune --days 30     removes artefacts older than that
The ledger of teacher replies that were paid for is never pruned.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from caft.console import clean, tell
from caft.store.artifacts import Store


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m caft.store", description=__doc__)
    parser.add_argument("--path", type=Path, default=Path(".caft_store"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    prune = commands.add_parser("prune")
    prune.add_argument("--days", type=float, required=True)
    given = parser.parse_args()
    if not given.path.is_dir():
        parser.error(f"there is no store at {clean(str(given.path))}; name its folder with --path")
    store = Store(given.path)
    if given.command == "list":
        list_artifacts(store)
    else:
        prune_artifacts(store, given.days)


def list_artifacts(store: Store) -> None:
    """One line an artefact, oldest first, and the total; then what was interrupted."""
    artifacts = store.artifacts()
    for artifact in artifacts:
        tell(
            f"{artifact.stage:9} {artifact.fingerprint}  {_age_days(artifact.folder):6.1f} days  "
            f"{_megabytes(artifact.folder):8.1f} MB  made in {artifact.seconds:.0f} s"
        )
    total = sum(_megabytes(artifact.folder) for artifact in artifacts)
    tell(f"{len(artifacts)} artefacts, {total:.1f} MB")
    unfinished = store.unfinished()
    if unfinished:
        tell(f"{len(unfinished)} interrupted, {sum(map(_megabytes, unfinished)):.1f} MB")


def prune_artifacts(store: Store, days: float) -> None:
    """Remove artefacts older than `days`, and checkpoints of work interrupted before then."""
    folders = [artifact.folder for artifact in store.artifacts()]
    unfinished = store.unfinished()
    old = [folder for folder in (*folders, *unfinished) if _age_days(folder) > days]
    freed = sum(map(_megabytes, old))
    for folder in old:
        shutil.rmtree(folder)
    gone = sum(folder in folders for folder in old)
    tell(f"removed {gone} artefacts and {len(old) - gone} interrupted ones, {freed:.1f} MB")


def _age_days(folder: Path) -> float:
    # Work that goes on writes files; the folder's own time stays that of its last new name.
    newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    return (time.time() - newest) / 86400


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()

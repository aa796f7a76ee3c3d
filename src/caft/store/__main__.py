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

from caft.store.artifacts import Artifact, Store


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
        parser.error(f"there is no store at {given.path}; name its folder with --path")
    store = Store(given.path)
    if given.command == "list":
        list_artifacts(store)
    else:
        prune_artifacts(store, given.days)


def list_artifacts(store: Store) -> None:
    """One line an artefact, oldest first, and the total."""
    artifacts = store.artifacts()
    for artifact in artifacts:
        print(
            f"{artifact.stage:9} {artifact.fingerprint}  {_age_days(artifact):6.1f} days  "
            f"{_megabytes(artifact):8.1f} MB  made in {artifact.seconds:.0f} s"
        )
    print(f"{len(artifacts)} artefacts, {sum(map(_megabytes, artifacts)):.1f} MB")


def prune_artifacts(store: Store, days: float) -> None:
    """Remove artefacts older than `days`."""
    old = [artifact for artifact in store.artifacts() if _age_days(artifact) > days]
    freed = sum(map(_megabytes, old))
    for artifact in old:
        shutil.rmtree(artifact.folder)
    print(f"removed {len(old)} artefacts, {freed:.1f} MB")


def _age_days(artifact: Artifact) -> float:
    return (time.time() - artifact.folder.stat().st_mtime) / 86400


def _megabytes(artifact: Artifact) -> float:
    return sum(path.stat().st_size for path in artifact.folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()

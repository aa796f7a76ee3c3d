"""A finished attempt becomes an artefact: sealed with its manifest, then renamed into place."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.store.attempts import end_attempt, is_scratch
from caft.store.durable import make_durable
from caft.store.fingerprint import digest, plain
from caft.store.manifest import MANIFEST, DamagedError, Manifest, read_manifest, write_manifest
from caft.store.measure import Effort
from caft.store.removing import remove
from caft.store.sums import find_change, list_files, sum_file


def seal(
    folder: Path, stage: str, key: Mapping[str, Any], effort: Effort, scratch: Sequence[str]
) -> None:
    """Write the manifest of all that `folder` holds beside `scratch`: with it, it is finished."""
    names = [name for name in list_files(folder) if not is_scratch(name, scratch)]
    manifest = Manifest(
        stage=stage,
        fingerprint=digest(key),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=effort.seconds,
        peak_memory_bytes=effort.peak_memory_bytes,
        key=plain(key),
        files={name: sum_file(folder / name) for name in names if name != MANIFEST},
    )
    for name in manifest.files:
        make_durable(folder / name)
    write_manifest(folder, manifest)


def is_sealed(folder: Path, stage: str, fingerprint: str) -> bool:
    """Whether an attempt was killed between its seal and its publishing."""
    try:
        manifest = read_manifest(folder, stage, fingerprint)
        return find_change(folder, manifest.files) is None
    except (DamagedError, OSError):
        return False


def publish(unfinished: Path, folder: Path, scratch: Sequence[str]) -> None:
    """Let the sealed attempt be seen as the artefact `folder`."""
    end_attempt(unfinished)
    for path in list(unfinished.iterdir()):
        if is_scratch(path.name, scratch):
            remove(path)
    for path in [*unfinished.rglob("*"), unfinished]:
        make_durable(path)
    unfinished.rename(folder)
    make_durable(folder.parent)

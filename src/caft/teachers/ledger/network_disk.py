"""Refuses network file systems, on which the write-ahead log of SQLite may be corrupted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from caft.errors import UserError
from caft.mounts import Mount, find_mount


def refuse_network_disk(path: Path, mounts: Iterable[Mount] | None = None) -> None:
    """UserError if `path` is on a network file system, of this host or of `mounts`."""
    mount = find_mount(path, mounts)
    if mount.is_network:
        raise UserError(
            f"the teacher's ledger {path} is on a network file system ({mount.kind}), where SQLite "
            "can lose replies that were paid for; set store.ledger_url=postgresql://HOST/DATABASE, "
            "or sqlite:////FILE on a local disk for this machine alone, and take along what was "
            f"bought: python -m caft.teachers.ledger copy {shlex.quote(str(path.absolute()))} URL"
        )

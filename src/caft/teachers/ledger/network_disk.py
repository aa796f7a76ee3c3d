"""Recognises network file systems, on which the write-ahead log of SQLite may be corrupted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from caft.errors import UserError

_NETWORK = frozenset({
    "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs",
    "fhgfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
    "panfs", "pvfs2", "smb2", "smb3", "smbfs", "webdav", "wekafs",
})  # fmt: skip
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.mergerfs", "fuse.fuse-overlayfs", "fuse.unionfs"})


def refuse_network_disk(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> None:
    """UserError if a file at `path` would be on a network file system.

    `mounts` are (folder, type) pairs of file systems, those of this machine if none are given.
    """
    kind = _find_kind(path, _list_mounts() if mounts is None else mounts)
    # Almost everything in user space that people mount is remote: sshfs, s3fs, ceph-fuse.
    remote = kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
    if remote:
        raise UserError(
            f"the teacher's ledger {path} is on a network file system ({kind}), where SQLite can "
            "lose replies that were paid for; set store.ledger_url=postgresql://HOST/DATABASE, or "
            "sqlite:////FILE on a local disk for this machine alone, and take along what was "
            f"bought: python -m caft.teachers.ledger copy {path} URL"
        )


def _list_mounts() -> Iterable[tuple[str, str]]:
    import psutil

    return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


def _find_kind(path: Path, mounts: Iterable[tuple[str, str]]) -> str:
    """The type of the file system with the longest matching folder; of equals the last, on top."""
    real, longest, kind = path.resolve(), -1, ""
    for folder, fstype in mounts:
        if real.is_relative_to(folder) and len(folder) >= longest:
            longest, kind = len(folder), fstype
    return kind

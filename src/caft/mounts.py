"""The file systems that are mounted here, and which of them other hosts may share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NETWORK = frozenset({
    "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
    "smb2", "smb3", "smbfs", "webdav", "wekafs",
})  # fmt: skip
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.mergerfs", "fuse.fuse-overlayfs", "fuse.unionfs"})
_NO_SHARED_LOCKS = frozenset({"fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse"})
_LOCAL_LOCKS = frozenset({"nolock", "local_lock=all", "local_lock=flock", "localflock"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system: the folder where it is, its type, and its options, separated by commas."""

    folder: str
    kind: str
    options: str = ""

    @property
    def is_network(self) -> bool:
        """Whether other hosts may have it, too."""
        # Almost everything in user space that people mount is remote: sshfs, s3fs, ceph-fuse.
        in_user_space = self.kind.startswith("fuse.") and self.kind not in _LOCAL_FUSE
        return self.kind in _NETWORK or in_user_space

    @property
    def local_locks(self) -> str:
        """Why locks hold on this host alone: an option, or the type; empty if they do not."""
        if self.kind in _NO_SHARED_LOCKS:
            return self.kind
        return min(_LOCAL_LOCKS.intersection(self.options.split(",")), default="")


def find_mount(path: Path, mounts: Iterable[Mount] | None = None) -> Mount:
    """The file system of `path`, which need not exist yet; of those of this host by default."""
    real, found = path.resolve(), Mount("", "")
    for mount in _list_mounts() if mounts is None else mounts:
        # The last of several at one folder is on top.
        if real.is_relative_to(mount.folder) and len(mount.folder) >= len(found.folder):
            found = mount
    return found


def _list_mounts() -> list[Mount]:
    import psutil

    return [
        Mount(part.mountpoint, part.fstype, part.opts) for part in psutil.disk_partitions(all=True)
    ]

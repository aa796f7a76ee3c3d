"""A store on a file system that several hosts share."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from caft.mounts import Mount, find_mount
from caft.store import Store
from caft.store.attempts import publish
from caft.store.disk import remove_closed
from caft.store.locks import hold_lock, warn_of_local_locks
from caft.store.manifest import UNFINISHED
from small_stage import SmallStage


def produce(folder: Path) -> None:
    (folder / "text").write_text("whole")


STAGE = SmallStage("tune", {"model": "tiny"}, produce)


def test_who_waits_is_told_who_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "tune" / ("a" * 20)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")

    def wait() -> None:
        with hold_lock(folder):
            pass

    with hold_lock(folder):
        waiter = threading.Thread(target=wait)
        waiter.start()
        while not caplog.messages:
            waiter.join(0.01)
        with hold_lock(folder, wait=False) as ours:
            assert not ours
    waiter.join()
    assert caplog.messages[0].startswith(f"a job on node7 (process {os.getpid()}, since 2")
    assert f"`kill {os.getpid()}` there ends it) is making tune aaaa" in caplog.messages[0]


@pytest.mark.parametrize("option", ["nolock", "local_lock=all", "localflock", ""])
def test_locks_that_hold_on_one_host_alone_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    options = f"rw,vers=3,{option},addr=10.0.0.1"
    warn_of_local_locks(tmp_path, [Mount("/", "ext4"), Mount(str(tmp_path), "nfs", options)])
    warn_of_local_locks(tmp_path, [Mount("/", "ext4", options)])
    told = [f"mounted with {option}, so its locks hold on this host alone"] if option else []
    assert len(caplog.messages) == len(told)
    assert all(words in line for words, line in zip(told, caplog.messages, strict=True))


def test_a_file_system_without_locks_for_others_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two mounts of one folder by sshfs 3.7 gave the same lock to both."""
    warn_of_local_locks(tmp_path, [Mount(str(tmp_path), "fuse.sshfs", "rw,relatime")])
    warn_of_local_locks(tmp_path, [Mount(str(tmp_path), "fuse.ceph-fuse", "rw,relatime")])
    (line,) = caplog.messages
    assert "on fuse.sshfs, so its locks hold on this host alone" in line


def test_the_mounts_of_this_machine_are_found(tmp_path: Path) -> None:
    mount = find_mount(tmp_path / "not" / "yet")
    assert mount.kind
    assert tmp_path.is_relative_to(mount.folder)


def test_what_another_host_has_published_is_as_good(tmp_path: Path) -> None:
    made = Store(tmp_path).obtain(STAGE).folder
    again = made.with_name(f"{UNFINISHED}{made.name}")
    shutil.copytree(made, again)
    publish(again, made, ())
    assert not again.exists()
    assert Store(tmp_path).obtain(STAGE).cached


def test_what_is_there_and_damaged_is_no_result(tmp_path: Path) -> None:
    made = Store(tmp_path).obtain(STAGE).folder
    again = made.with_name(f"{UNFINISHED}{made.name}")
    shutil.copytree(made, again)
    (made / "text").write_text("other")
    with pytest.raises(OSError, match="not empty"):
        publish(again, made, ())
    assert (again / "text").read_text() == "whole"


def test_files_that_are_open_elsewhere_hold_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rmtree(path: Path) -> None:
        # As NFS does it: a file that is open is renamed, and its folder cannot go.
        (path / "open").rename(path / ".nfs0001")
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "open").touch()
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove_closed(folder)
    assert [path.name for path in folder.iterdir()] == [".nfs0001"]
    (folder / "open").touch()
    (folder / "kept").touch()
    with pytest.raises(OSError, match="not empty"):
        remove_closed(folder)


def test_a_folder_that_another_host_removed_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, folder = shutil.rmtree, tmp_path / "trash"
    folder.mkdir()

    def rmtree(path: Path) -> None:
        real(path)
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove_closed(folder)
    assert not folder.exists()

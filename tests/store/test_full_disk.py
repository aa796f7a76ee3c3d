"""No room on a disk is reported in one line; every other error stays what it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock
from safetensors import safe_open

from caft.errors import UserError
from caft.store import disk_may_be_full, explain_refusal, write_rows
from caft.store.locks import _acquire


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_the_users_to_solve(number: int) -> None:
    folder = Path("/some/run")
    with pytest.raises(UserError) as caught, disk_may_be_full(folder, "make room"):
        raise OSError(number, "words of the system")
    assert str(caught.value).startswith("what was made cannot be written to /some/run: ")
    assert str(caught.value).endswith("; make room")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), ValueError("ours")])
def test_any_other_error_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_may_be_full(Path(), "make room"):
        raise error
    assert caught.value is error


FOLDERS = {"hydra.run.dir": Path("/runs/one"), "store.path": Path("/store")}


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (
            OSError(errno.ENOSPC, "full", "/store/tune/x"),
            ("/store/tune/x cannot be written: No space", "make room there, or set store.path to"),
        ),
        (
            OSError(errno.EROFS, "no", "/runs/one/a"),
            ("/runs/one/a cannot be used: Read-only", "allow that, or set hydra.run.dir to"),
        ),
        (
            OSError(errno.EDQUOT, "full"),
            ("/runs/one, /store cannot be written", "set hydra.run.dir or store.path to"),
        ),
        (
            PermissionError(errno.EACCES, "no", b"/elsewhere/a"),
            ("/elsewhere/a cannot be used: Permission denied", "hydra.run.dir or store.path"),
        ),
        (FileNotFoundError(2, "No usable temporary directory found in []"), ("set TMPDIR to one",)),
    ],
)
def test_a_refused_write_names_the_folder_and_the_setting(
    error: OSError, parts: tuple[str, ...]
) -> None:
    line = explain_refusal(error, FOLDERS)
    assert line is not None
    assert all(part in line for part in parts), line
    assert "\n" not in line


def test_other_errors_are_not_explained_away(tmp_path: Path) -> None:
    assert explain_refusal(OSError(errno.EIO, "broken"), FOLDERS) is None
    here = {"store.path": tmp_path}
    assert explain_refusal(FileNotFoundError(2, "none", str(tmp_path / "x")), here) is None
    # A disk that was unmounted takes the folder with it.
    gone = {"store.path": tmp_path / "usb"}
    line = explain_refusal(FileNotFoundError(2, "none", str(tmp_path / "usb" / "x")), gone)
    assert line is not None
    assert "usb is gone" in line
    assert "set store.path to another folder" in line
    with pytest.raises(FileNotFoundError) as unnamed:
        write_rows(tmp_path / "usb" / "x.parquet", [{"row": 1}])
    assert unnamed.value.filename is None  # pyarrow names it in its text
    assert explain_refusal(unnamed.value, gone) == line
    with pytest.raises(FileNotFoundError) as unnumbered:
        safe_open(tmp_path / "usb" / "x.safetensors", framework="pt")
    assert unnumbered.value.errno is None  # safetensors names the file alone
    assert explain_refusal(unnumbered.value, gone) == line
    assert explain_refusal(FileNotFoundError(2, "no such file", "x"), FOLDERS) is None


def test_a_lock_on_a_read_only_disk_is_not_to_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object, **_names: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    lock = FileLock(tmp_path / "l")
    monkeypatch.setattr(lock, "acquire", refuse)
    with pytest.raises(UserError, match=r"as a lock: Read-only .*; mount it writable, or name"):
        _acquire(lock, timeout=0)

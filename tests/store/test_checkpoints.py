"""Checkpoints: whole or not there; damaged ones are named and skipped; a full disk loses none."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import pytest
import torch
from damage_kinds import DAMAGES

from caft.errors import UserError
from caft.store import Checkpoints
from caft.store.disk import is_there, remove


def save(checkpoints: Checkpoints, step: int, content: bytes) -> None:
    checkpoints.save(step, lambda stream: stream.write(content))


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "some")
    assert checkpoints.newest() is None
    for step in (1, 2, 10):
        save(checkpoints, step, b"state %d" % step)
    assert checkpoints.steps() == [2, 10]
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.read_bytes() == b"state 10"


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["state", "sha256", ""])
def test_a_damaged_one_is_named_and_the_one_before_is_taken(tmp_path, caplog, name, how):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 3, b"good")
    save(checkpoints, 4, b"better")
    folder = tmp_path / "step-000000004"
    if not name:
        remove(folder)
        folder.write_bytes(b"a file where the folder was")
    DAMAGES[how](folder / name if name else folder)
    if not is_there(folder):
        return
    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest()
    assert newest is not None
    assert newest.read_bytes() == b"good"
    assert str(folder) in caplog.text
    # The same step can be reached and kept again.
    save(checkpoints, 4, b"again")
    assert checkpoints.steps() == [3, 4]


def test_what_has_another_name_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 7, b"seven")
    for name in ("step-copy", "step-", "step-000000007 copy", "step--00000001", "step-٠٠٠٠٠٠٠٠٩"):
        (tmp_path / name).mkdir()
    assert checkpoints.steps() == [7]
    for step in (8, 9):
        save(checkpoints, step, b"more")
    assert checkpoints.steps() == [8, 9]
    assert (tmp_path / "step-copy").is_dir()


@pytest.mark.parametrize("how", ["garbage", "link"])
def test_what_is_no_folder_of_checkpoints_is_named_and_replaced(tmp_path, caplog, how):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    DAMAGES[how](tmp_path / "checkpoints")
    assert checkpoints.newest() is None
    assert "it is not a folder" in caplog.text
    save(checkpoints, 1, b"one")
    assert checkpoints.steps() == [1]


def test_what_a_killed_writer_left_is_not_a_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, b"one")
    half = tmp_path / ".writing-000000002"
    half.mkdir()
    (half / "state").write_bytes(b"half of tw")
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.read_bytes() == b"one"
    save(checkpoints, 2, b"two")
    assert checkpoints.steps() == [1, 2]
    assert not half.exists()


def test_a_full_disk_is_named_and_the_last_good_one_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = {"weights": torch.zeros(10)}
    checkpoints.save(1, lambda stream: torch.save(state, stream))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = {"weights": torch.zeros(500_000)}
    # Beyond the limit the system refuses to write, as on a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(UserError) as caught:
            checkpoints.save(2, lambda stream: torch.save(large, stream))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(caught.value)
    assert "the checkpoint of step 2 cannot be written" in message
    assert "File too large" in message
    assert "the last good checkpoint is that of step 1" in message
    assert "run the same command again" in message
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
    newest = checkpoints.newest()
    assert isinstance(newest, Path)
    assert torch.equal(torch.load(newest, weights_only=True)["weights"], torch.zeros(10))

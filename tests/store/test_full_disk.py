"""No room on a disk is said in one line; every other error stays what it is."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.store import disk_may_be_full


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

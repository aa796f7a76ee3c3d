"""A disk without room is the user's to solve, and said as such, wherever we write."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caft.errors import UserError

# No room, a quota that is used up, a file that grew too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_may_be_full(folder: Path, advice: str) -> Iterator[None]:
    """UserError with `advice` where what is done inside finds no room in `folder`.

    Any other error passes as it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f"what was made cannot be written to {folder}: {os.strerror(error.errno)}; {advice}"
        ) from error

"""Work for processes of their own, which import it by name."""

from __future__ import annotations

import errno
import sys
import time
from pathlib import Path
from typing import Any


def fail(ranks: Any, _tell: Any, what: str) -> str:
    """Only the second process fails; the first one waits for it to."""
    if ranks.rank == 0:
        time.sleep(60)
    if what == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "/a/journal")
    if what == "missing":
        Path("/no/such/file").read_text()
    if what == "exit":
        sys.exit(7)
    raise UnpicklableError(what)


class UnpicklableError(Exception):
    """Two arguments that it does not keep, and something that cannot travel."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.way = what, lambda: what

    def __str__(self) -> str:
        return f"broken by {self.what}"

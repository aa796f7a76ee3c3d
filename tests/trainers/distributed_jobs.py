"""Work for processes of their own, which import it by name."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from torch import distributed


def fail(ranks: Any, _report: Any, what: str) -> str:
    """Only the second process fails; the first one waits for it to."""
    ranks.add(1.0)  # both have met: the first one would report the other's absence
    if ranks.rank == 0:
        time.sleep(60)
    if what == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "/a/journal")
    if what == "missing":
        Path("/no/such/file").read_text()
    if what == "exit":
        sys.exit(7)
    raise UnpicklableError(what)


def be_killed(ranks: Any, _report: Any) -> None:
    """The second process, as by the kernel that runs out of memory."""
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while not ranks.asked_to_stop():
        time.sleep(0.01)
    raise SystemExit(0)


def list_listeners(ranks: Any, report: Any) -> list[list[str]]:
    """The addresses on which each process listens once they have met and exchanged something."""
    import psutil

    assert ranks.add(1.0) == [2.0]
    found = psutil.Process().net_connections("inet")
    own = [link.laddr.ip for link in found if link.status == psutil.CONN_LISTEN]
    gathered: list[Any] = [None] * ranks.count
    distributed.all_gather_object(gathered, own)
    return gathered


class UnpicklableError(Exception):
    """Two arguments that it does not keep, and something that cannot travel."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.way = what, lambda: what

    def __str__(self) -> str:
        return f"broken by {self.what}"

"""Seconds, peak memory and tokens of a piece of work."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from caft.decoration import or_without

_PROCESS_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What passed through a model: prompts, rows of every epoch, replies.

    Prompts count in full, even where a beginning that they share is computed once.
    """

    read: int = 0
    trained: int = 0
    written: int = 0


NO_TOKENS = Tokens()


@dataclass(slots=True)
class Effort:
    """Filled in when the work ends: wall seconds, and the peak of memory in bytes.

    Memory is the accelerator's where torch has used one, else the process's resident set. `tokens`
    is for the work to fill in.
    """

    seconds: float = 0.0
    peak_memory_bytes: int = 0
    tokens: Tokens = NO_TOKENS


@contextmanager
def measured() -> Iterator[Effort]:
    """Measure the body. If the system cannot reset the peak, it is that of the whole process."""
    effort = Effort()
    _forget_peak()
    start = time.perf_counter()
    try:
        yield effort
    finally:
        effort.seconds = time.perf_counter() - start
        effort.peak_memory_bytes = or_without("the peak of memory", _peak_bytes, 0)


def _cuda() -> ModuleType | None:
    """torch.cuda where it has been used; nothing is imported for it."""
    cuda = sys.modules.get("torch.cuda")
    return cuda if cuda and cuda.is_available() and cuda.is_initialized() else None


def _forget_peak() -> None:
    if cuda := _cuda():
        cuda.reset_peak_memory_stats()
    # A sandbox may forbid it, and other systems have no such file.
    with suppress(OSError):
        if _RESET_PEAK.exists():
            _RESET_PEAK.write_text("5")


def _peak_bytes() -> int:
    if cuda := _cuda():
        return int(cuda.max_memory_allocated())
    if _PROCESS_STATUS.exists():
        for line in _PROCESS_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

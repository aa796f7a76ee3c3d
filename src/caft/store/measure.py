"""Seconds and peak memory of a piece of work."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caft.decoration import or_without

_PROCESS_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(slots=True)
class Effort:
    """Filled in when the work ends: wall seconds, and the peak of memory in bytes.

    Memory is the accelerator's where torch has used one, else the process's resident set.
    """

    seconds: float = 0.0
    peak_memory_bytes: int = 0


@contextmanager
def measured() -> Iterator[Effort]:
    """Measure the body. Where the system cannot forget old peaks, the peak is the process's."""
    effort = Effort()
    _forget_peak()
    start = time.perf_counter()
    try:
        yield effort
    finally:
        effort.seconds = time.perf_counter() - start
        effort.peak_memory_bytes = or_without("the peak of memory", _peak_bytes, 0)


def _accelerator() -> object | None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda  # type: ignore[no-any-return]
    return None


def _forget_peak() -> None:
    if (cuda := _accelerator()) is not None:
        cuda.reset_peak_memory_stats()  # type: ignore[attr-defined]
    if _RESET_PEAK.exists():
        try:
            _RESET_PEAK.write_text("5")
        except OSError:  # a sandbox may forbid it; the peak is then the process's
            return


def _peak_bytes() -> int:
    if (cuda := _accelerator()) is not None:
        return int(cuda.max_memory_allocated())  # type: ignore[attr-defined]
    if _PROCESS_STATUS.exists():
        for line in _PROCESS_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""How many threads a process computes with, and how long they spin while they wait.

OpenMP reads both from the environment when torch is imported, and never again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SPINS = "GOMP_SPINCOUNT"
_WAITING = (_SPINS, "OMP_WAIT_POLICY")
# 0.1 to 0.2 ms: as long as four of five pauses between two products. The default of libgomp,
# 300,000, is longer than a scheduler's time slice: beside other work a thread burns its share of
# the processor in waiting for one that does not run (docs/decisions/0031-threads.md).
_SPINS_BEFORE_SLEEP = 4000


def set_up_threads() -> None:
    """For this process and those it starts; before torch is imported. A user's settings win."""
    if not any(name in os.environ for name in _WAITING):
        os.environ[_SPINS] = str(_SPINS_BEFORE_SLEEP)
    # OpenMP knows which cores it may use, but not how much of their time.
    if usable_cores() < allowed_cores():
        limit_threads(usable_cores())


def limit_threads(count: int) -> None:
    """As `set_up_threads`: at most `count` threads."""
    given = [os.environ[name] for name in _NUMBER if name in os.environ]
    for name in _NUMBER:
        # Joblib sets for its workers what is missing, and torch takes the second before the first.
        os.environ.setdefault(name, given[0] if given else str(count))


@contextmanager
def divided_cores(processes: int) -> Iterator[None]:
    """Each of so many processes that start in the body and run at once has its share of cores."""
    missing = [name for name in _NUMBER if name not in os.environ] if processes > 1 else []
    if missing:
        limit_threads(max(1, usable_cores() // processes))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def usable_cores() -> int:
    """The cores that this process may use, by its affinity and its cgroup's share of time."""
    return max(1, math.ceil(min(allowed_cores(), _quota(_OWN_GROUPS, _GROUPS))))


def allowed_cores() -> int:
    """The cores that this process may run on; schedulers and containers may give less than all."""
    can_ask = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1


# --- Limits of containers and schedulers ----------------------------------------------------------

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def _quota(own: Path, mounted: Path) -> float:
    """Cores' worth of processor time, by the strictest group that this process is in."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    groups = [group for line in lines for group in _list_groups(line, mounted)]
    return min(map(_read_quota, groups), default=math.inf)


def _list_groups(line: str, mounted: Path) -> Iterator[Path]:
    """The folders of a line NUMBER:CONTROLLERS:PATH, a group and those around it.

    Inside a container some do not exist: its own group is mounted as the outermost.
    """
    _, controllers, path = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    outermost = mounted / "cpu" if controllers else mounted
    inner = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(inner) + 1):
        yield outermost.joinpath(*inner[:depth])


def _read_quota(group: Path) -> float:
    """Of version 2 in one file, of version 1 in two."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((group / name).read_text(encoding="ascii") for name in names)
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):
        # Version 2 writes "max" where there is no limit.
        return math.inf

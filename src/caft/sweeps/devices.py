"""Devices for jobs that run side by side on one machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from caft.sweeps.stopping import refuse_while_stopping


def device_groups(visible: Sequence[str], per_job: int) -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES, one a job: neighbours together, leftovers unused."""
    starts = range(0, len(visible) - per_job + 1, per_job)
    return [",".join(visible[start : start + per_job]) for start in starts]


def count_groups(per_job: int) -> int:
    """How many jobs have devices of their own here; 0 if they need none, or there are too few."""
    return len(device_groups(_visible_devices(), per_job)) if per_job else 0


def _visible_devices() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    # Asking torch would take seconds and memory in a process that only waits.
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


@contextmanager
def own_devices(sweep: Path, count: int) -> Iterator[dict[str, str]]:
    """The environment that gives a job `count` devices of its own within this sweep and machine.

    Empty if `count` is 0 or there are fewer. The system frees a lock with the process that held it,
    so a killed job blocks no device. Raises JobError if the sweep is stopped while a job waits.
    """
    groups = device_groups(_visible_devices(), count) if count else []
    if not groups:
        yield {}
        return
    locks = sweep / ".devices"
    locks.mkdir(exist_ok=True)
    while True:
        refuse_while_stopping(sweep)
        for group in groups:
            lock = FileLock(locks / f"{group.replace(',', '+')}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield {"CUDA_VISIBLE_DEVICES": group}
            finally:
                lock.release()
            return
        time.sleep(1.0)

"""Identifies processes across restarts: systems reuse process numbers.

A process is identified by its host, its number and its start time, as the kernel counts it. A
process that differs in any of them is another one: it is never waited for and never signalled.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_DEAD = ("Z", "X", "x")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process among all that ever had its number. `began` is "" if it is unknown."""

    host: str
    pid: int
    began: str


def identify(pid: int) -> ProcessId:
    """The process that has this number now; `began` is empty if it has ended."""
    return ProcessId(socket.gethostname(), pid, _look_up(pid)[0])


def parse_process(entry: object) -> ProcessId | None:
    """What `asdict` made of a ProcessId; None for anything else."""
    match entry:
        case {"host": str(host), "pid": int(pid), "began": str(began)} if pid > 1:
            return ProcessId(host, pid, began)
    return None


def is_alive(process: ProcessId) -> bool:
    """Whether this very process runs here; a zombie does not."""
    if not process.began or process.host != socket.gethostname():
        return False
    return _look_up(process.pid) == (process.began, True)


def signal_group(process: ProcessId, number: int) -> None:
    """Signal this very process and the group that it leads; never another process, or ourselves."""
    if not is_alive(process) or process.pid == os.getpid():
        return
    # It may have ended in between, and its number may be another user's already.
    with suppress(ProcessLookupError, PermissionError):
        leads = os.getpgid(process.pid) == process.pid
        (os.killpg if leads else os.kill)(process.pid, number)


def _look_up(pid: int) -> tuple[str, bool]:
    """When the process of this number began, and whether it still runs; ("", False) for none."""
    if sys.platform != "linux":
        return _look_up_by_psutil(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
        # After the program's name, which may hold anything: state is field 3, start time 22.
        values = stat[stat.rindex(")") + 1 :].split()
        # The clock's own time is no use: it is set, and then a start time in seconds moves.
        return f"{_boot()}:{values[19]}", values[0] not in _DEAD
    except (OSError, ValueError, IndexError):
        return "", False


@cache
def _boot() -> str:
    """The boot and the process namespace: process 7 in a container is another one outside."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    try:
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return boot


def _look_up_by_psutil(pid: int) -> tuple[str, bool]:
    import psutil

    try:
        process = psutil.Process(pid)
        return str(process.create_time()), process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return "", False

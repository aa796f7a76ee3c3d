"""Ends a sweep's processes with its command: on Ctrl-C, which is passed on once, or its death."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType

from caft.sums import read_json
from caft.sweeps.processes import ProcessId, identify, is_alive, parse_process, signal_group
from caft.sweeps.run_folders import write_json

_STOP_FILE = ".stopping"
_COMMAND = "CAFT_SWEEP"
_SECONDS_BETWEEN_LOOKS = 0.1
_working = threading.Lock()


class JobError(RuntimeError):
    """Raised to show a searching sweeper that this job has no value."""


@contextmanager
def named_command() -> Iterator[None]:
    """A launcher's workers that start in the body find their command in the environment."""
    before = os.environ.get(_COMMAND)
    os.environ[_COMMAND] = json.dumps(asdict(identify(os.getpid())))
    try:
        yield
    finally:
        del os.environ[_COMMAND]
        if before is not None:
            os.environ[_COMMAND] = before


def _find_command() -> ProcessId:
    """The process of the command that this one works for; itself where there is none."""
    try:
        named = parse_process(json.loads(os.environ.get(_COMMAND, "null")))
    except ValueError:
        named = None
    return named or identify(os.getpid())


def is_worker() -> bool:
    """Whether a launcher such as joblib keeps this process, to run a command's jobs in."""
    return parent_process() is not None and _find_command() != identify(os.getpid())


@contextmanager
def ending_with_command() -> Iterator[None]:
    """For a launcher's worker, which would wait for ever if its command was killed.

    It ends with its command; a job that runs in the body is waited for, and keeps its devices.
    """
    with _working:
        command = _find_command()
        if is_alive(command):
            _watch(command)
        yield


@cache
def _watch(command: ProcessId) -> None:
    threading.Thread(target=_end_after, args=(command,), daemon=True).start()


def _end_after(command: ProcessId) -> None:
    while is_alive(command):
        time.sleep(10 * _SECONDS_BETWEEN_LOOKS)
    with _working:
        os._exit(0)


@contextmanager
def noted_child(folder: Path, pid: int) -> Iterator[None]:
    """While a child runs the job or waits for it, a note names the child and its command."""
    note = folder / ".hydra" / f"process-{pid}.json"
    # On a full disk the job itself reports the error; without the note it only cannot be stopped.
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {"child": asdict(identify(pid)), "command": asdict(_find_command())})
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def stop_jobs(folder: Path, number: int) -> None:
    """Pass a signal on to the jobs of this command, and wait until each has saved its work.

    To children that this command started, and to those that a killed command left running. Jobs
    that another living command runs in the same folder are not stopped.
    """
    with suppress(OSError):
        write_json(folder / _STOP_FILE, asdict(_find_command()))
    own = _find_command()
    _end_children(
        (
            child
            for note in sorted(folder.glob("*/.hydra/process-*.json"))
            for child, command in [_read_note(note)]
            if child and command and (command == own or not is_alive(command))
        ),
        number,
    )


def _end_children(found: Iterable[ProcessId], number: int, seconds: float = math.inf) -> None:
    """Signal those that live, and wait until they have ended."""
    children = [child for child in found if is_alive(child)]
    for child in children:
        # A job leads a process group of its own: its ranks are in it.
        signal_group(child, number)
    until = time.monotonic() + seconds
    while any(is_alive(child) for child in children) and time.monotonic() < until:
        time.sleep(_SECONDS_BETWEEN_LOOKS)


@contextmanager
def saved_before_requeue(folder: Path, seconds: float) -> Iterator[None]:
    """At SIGUSR2, Slurm's warning, the job of the folder has `seconds` to save its work and to end.

    submitit, which handles the signal, returns the job to the queue at once, and that ends it.
    Nothing changes where `seconds` is 0.
    """
    before = signal.getsignal(signal.SIGUSR2)
    if not seconds or not callable(before):
        yield
        return

    def end_first(number: int, frame: FrameType | None) -> None:
        notes = [_read_note(note) for note in folder.glob(".hydra/process-*.json")]
        _end_children((child for child, _ in notes if child), signal.SIGTERM, seconds)
        before(number, frame)

    signal.signal(signal.SIGUSR2, end_first)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR2, before)


def refuse_while_stopping(sweep: Path) -> None:
    """JobError if the command that this process works for is stopping its sweep."""
    if parse_process(read_json(sweep / _STOP_FILE)) == _find_command():
        raise JobError("the sweep is being stopped")


def forget_dead_children(folder: Path) -> None:
    """Remove notes whose writer was killed before it could."""
    for note in folder.glob(".hydra/process-*.json"):
        child, _ = _read_note(note)
        if child is None or not is_alive(child):
            note.unlink(missing_ok=True)


def _read_note(path: Path) -> tuple[ProcessId | None, ProcessId | None]:
    """The child and the command of a note; None for what is damaged."""
    note = read_json(path)
    if not isinstance(note, dict):
        return None, None
    return parse_process(note.get("child")), parse_process(note.get("command"))

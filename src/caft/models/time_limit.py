"""Work that may never end: a hub that does not answer, a chat template that loops."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises, or TimeoutError after `seconds`.

    It runs in a daemon thread, which does not keep the process alive; after the time limit it ends
    at its next step in Python.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except (Exception, SystemExit) as error:  # the caller sorts it
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True, name="time-limit")
    thread.start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        # An endless loop would slow down the rest of the run.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        raise

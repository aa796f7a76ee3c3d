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

    It runs in a daemon thread, which keeps nobody from exiting; one that is late ends at its next
    step in Python.
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
        # A loop would take the rest of our time.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        raise

"""How a command ends: the exit statuses, and the signals that end it early.

0 done; 2 the user must act; 1 a fault of ours; 143 and 130 after SIGTERM and SIGINT.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from types import FrameType

from caft.console import tell_error

_AGAIN_SECONDS = 0.05

_SAME_SECONDS = 0.5
"""Between two signals that are one: timeout(1) sends it to the process and to its group."""

_STEP_FIRST = b"stopping after this step, whose work is kept; Ctrl-C stops at once\n"

DONE = 0
OUR_FAULT = 1
USER_MUST_ACT = 2


@dataclass
class Caught:
    """The last signal that asked the process to end, or None."""

    number: int | None = None
    tell: Callable[[int], None] | None = None
    """Called with the first signal, before it ends anything: to pass it on to other processes."""
    listen: Callable[[], None] = lambda: None
    """Installs the handlers, again where a library has put its own in their place."""

    @property
    def status(self) -> int:
        """The shell's convention: 128 plus the signal's number."""
        assert self.number is not None, "no signal was caught"
        return 128 + self.number

    @property
    def name(self) -> str:
        """Such as SIGTERM."""
        assert self.number is not None, "no signal was caught"
        return signal.Signals(self.number).name


@dataclass(frozen=True)
class _Manner:
    """How work ends by itself: what is said of it, and whether a second SIGTERM ends it at once."""

    words: bytes
    second_ends: bool


_watching: list[Caught] = []
_ends_by_itself: list[_Manner] = []


def asked_to_end() -> bool:
    """Whether a signal has come, for long work that ends between two steps of its own."""
    return any(caught.number is not None for caught in _watching)


def end_if_asked() -> None:
    """Raises SystemExit where a signal was only noted: to be called between two steps."""
    if asked_to_end():
        raise SystemExit(DONE)


def end_as_asked() -> None:
    """Raises what a signal that was only noted would have raised, where one was."""
    for caught in _watching:
        if caught.number is not None:
            raise KeyboardInterrupt if caught.number == signal.SIGINT else SystemExit(caught.status)


def take_signals_back() -> None:
    """From a library that would end the work at places of its own choice."""
    if _watching:
        _watching[-1].listen()


@contextmanager
def ends_by_itself(words: bytes = _STEP_FIRST, *, second_ends: bool = False) -> Iterator[None]:
    """For work that asks `asked_to_end`: signals are only noted, but for a second Ctrl-C.

    `words` are said at the first one. With `second_ends` a second SIGTERM is not only noted
    either; a cluster may repeat itself, so work of unknown length is better without.
    """
    _ends_by_itself.append(_Manner(words, second_ends))
    try:
        yield
    finally:
        _ends_by_itself.pop()


@contextmanager
def watch_signals() -> Iterator[Caught]:
    """Notes SIGTERM and SIGINT and turns them into SystemExit and KeyboardInterrupt.

    While somebody else has taken a signal over, as Lightning does with SIGTERM, or inside
    `ends_by_itself`, it is only noted: they end the process in their own time, with statuses of
    their own, which is why the signal is remembered here.

    Python ignores what is raised while it cleans up an object or a lock of its import system; a
    signal that came at such a moment is sent again.
    """
    caught = Caught()
    raised: list[BaseException] = []
    came: list[float] = []
    again: list[Timer] = []

    def end(number: int, _frame: FrameType | None) -> None:
        first, now = caught.number is None, time.monotonic()
        tell, caught.tell, caught.number = caught.tell, None, number
        if tell:
            tell(number)
        if signal.getsignal(number) is not end:
            return
        if _ends_by_itself and first:
            came[:] = [now]
            os.write(2, _ends_by_itself[-1].words)
            return
        if _ends_by_itself and number == signal.SIGTERM:
            another = came and now - came[0] > _SAME_SECONDS
            if not (another and _ends_by_itself[-1].second_ends):
                return
        raised[:] = [KeyboardInterrupt() if number == signal.SIGINT else SystemExit(caught.status)]
        raise raised[0]

    def send_again(ignored: sys.UnraisableHookArgs) -> None:
        if caught.number is None or ignored.exc_value not in raised:
            hook_before(ignored)
            return
        # Not here: what a hook raises is ignored, too.
        again.append(Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), caught.number)))
        again[-1].daemon = True
        again[-1].start()

    hook_before = sys.unraisablehook
    sys.unraisablehook = send_again
    # A shell starts background jobs with SIGINT ignored: what is ignored stays ignored.
    before = {
        number: handler
        for number in (signal.SIGTERM, signal.SIGINT)
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }

    def listen() -> None:
        for number in before:
            signal.signal(number, end)

    caught.listen = listen
    listen()
    _watching.append(caught)
    try:
        yield caught
    finally:
        _watching.pop()
        sys.unraisablehook = hook_before
        for timer in again:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def say(message: str) -> None:
    """One line on standard error, whatever line breaks the message has."""
    tell_error(" ".join(message.split()))

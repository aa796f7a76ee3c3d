"""How a command ends: the exit statuses, and the signals that end it early.

0 done; 2 the user must act; 1 a bug; 130 after SIGINT, 143 after SIGTERM, SIGUSR1 and SIGUSR2, by
which a scheduler warns of the end, and where another process of the run was killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from types import FrameType
from typing import NoReturn

from caft.console import erase_bar, tell_error

DONE = 0
OUR_FAULT = 1
USER_MUST_ACT = 2
INTERRUPTED = 128 + signal.SIGTERM

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""The signals that ask a command to end."""

_SECONDS_UNTIL_AGAIN = 0.05
_SECONDS_OF_ONE_SIGNAL = 0.5
"""Seconds. Two signals within this time are one: timeout(1) signals both process and group."""

_STEP_OF_ALL = b"stopping when all processes have ended a step; Ctrl-C stops at once\n"
_STEP_FIRST = b"stopping after this step, which is saved; Ctrl-C stops at once\n"


class Caught:
    """The signals that ask the process to end, those of `ENDING`, while `watch_signals` runs.

    `number` is that of the last one, or None. `pass_on` is called with the first one, before it
    ends anything: to pass it on to other processes. `reason` is why this process asked itself.
    `raised` is what a signal that was not only noted has raised.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.reason = ""
        self.pass_on: Callable[[int], None] | None = None
        self.raised: BaseException | None = None
        self._noted_at: float | None = None
        self._again: list[Timer] = []
        self._hook_before = sys.unraisablehook
        # A shell starts background jobs with SIGINT ignored: what is ignored stays ignored.
        self._before = {
            number: handler
            for number in ENDING
            if (handler := signal.getsignal(number)) is not signal.SIG_IGN
        }

    @property
    def status(self) -> int:
        """As the shell has it, 128 plus the signal's number; all but Ctrl-C mean SIGTERM."""
        assert self.number is not None, "no signal was caught"
        return 128 + signal.SIGINT if self.number == signal.SIGINT else INTERRUPTED

    @property
    def name(self) -> str:
        """Such as SIGTERM."""
        assert self.number is not None, "no signal was caught"
        return signal.Signals(self.number).name

    def explain(self, advice: str) -> str:
        """The reason, or the signal with `advice`."""
        return self.reason or f"stopped by {self.name}; {advice}"

    def listen(self) -> None:
        """Install the handlers, again where a library has put its own in their place."""
        for number in self._before:
            signal.signal(number, self._handle)

    def stop_listening(self) -> None:
        """Put back whatever handled signals before."""
        sys.unraisablehook = self._hook_before
        for timer in self._again:
            timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first, now = self.number is None, time.monotonic()
        pass_on, self.pass_on, self.number = self.pass_on, None, number
        if pass_on:
            pass_on(number)
        if signal.getsignal(number) != self._handle or self._is_only_noted(number, first, now):
            return
        self.raised = self.ending()
        raise self.raised

    def ending(self) -> BaseException:
        """What the last signal raises."""
        interrupted = self.number == signal.SIGINT
        return KeyboardInterrupt() if interrupted else SystemExit(self.status)

    def _is_only_noted(self, number: int, first: bool, now: float) -> bool:
        """Whether the work ends itself, and the signal is not one that ends it at once."""
        if not _ends_by_itself:
            return False
        text, second_ends = _ends_by_itself[-1]
        if first:
            self._noted_at = now
            os.write(2, erase_bar() + text)
            return True
        noted = self._noted_at
        another = noted is not None and now - noted > _SECONDS_OF_ONE_SIGNAL
        return number != signal.SIGINT and not (another and second_ends)

    def send_again(self, ignored: sys.UnraisableHookArgs) -> None:
        """Python ignores what is raised while it cleans up an object or an import lock."""
        if self.raised is None or ignored.exc_value is not self.raised or self.number is None:
            self._hook_before(ignored)
            return
        # Not here: what a hook raises is ignored, too.
        timer = Timer(_SECONDS_UNTIL_AGAIN, os.kill, (os.getpid(), self.number))
        timer.daemon = True
        timer.start()
        self._again.append(timer)


_watching: list[Caught] = []
_agreeing: list[bool] = []
_ends_by_itself: list[tuple[bytes, bool]] = []
"""Work that ends itself: the text printed then, and whether a second SIGTERM ends it at once."""


def was_signalled() -> bool:
    """Whether a signal has come to this process, whatever its work makes of it."""
    return any(caught.number is not None for caught in _watching)


def asked_to_end() -> bool:
    """Whether a signal has come, for long work that ends between two steps of its own."""
    return not _agreeing and was_signalled()


def end_if_asked() -> None:
    """Raises SystemExit if a signal was only noted: to be called between two steps."""
    if asked_to_end():
        raise SystemExit(DONE)


def end_as_asked() -> None:
    """Raises what a signal that was only noted would have raised, where one was."""
    for caught in _watching:
        if caught.number is not None:
            raise caught.ending()


def end_if_interrupted() -> None:
    """Raises what a signal has raised, where an error has taken its place.

    A library that is interrupted puts back what it has half done, and may fail in that.
    """
    for caught in _watching:
        if caught.raised is not None:
            raise caught.ending()


def interrupt(reason: str) -> None:
    """From another thread: end this process as SIGTERM does, and say `reason` in its place."""
    for caught in _watching:
        caught.reason = reason
    os.kill(os.getpid(), signal.SIGTERM)


def end_because(reason: str) -> NoReturn:
    """The same at once, from the main thread, where no step is left to be waited for."""
    for caught in _watching:
        caught.reason, caught.number = reason, signal.SIGTERM
    raise SystemExit(INTERRUPTED)


def take_signals_back() -> None:
    """From a library that would end the work at places of its own choice."""
    if _watching:
        _watching[-1].listen()


@contextmanager
def ends_by_itself(text: bytes = _STEP_FIRST, *, second_ends: bool = False) -> Iterator[None]:
    """For work that asks `asked_to_end`: signals are only noted, but for a second Ctrl-C.

    `text` is printed at the first one. With `second_ends` a second SIGTERM is not only noted
    either; a cluster may repeat itself, so work of unknown length is better without.
    """
    _ends_by_itself.append((text, second_ends))
    try:
        yield
    finally:
        _ends_by_itself.pop()


@contextmanager
def ends_by_agreement() -> Iterator[None]:
    """For work that processes share: signals are only noted, and nobody is `asked_to_end`.

    A process that left an exchange by itself would leave the others in it: they agree when to stop.
    """
    _agreeing.append(True)
    try:
        with ends_by_itself(_STEP_OF_ALL):
            yield
    finally:
        _agreeing.pop()


@contextmanager
def watch_signals() -> Iterator[Caught]:
    """Notes the signals of `ENDING`; turns SIGINT into KeyboardInterrupt, others into SystemExit.

    While a library has taken a signal over, as Lightning does with SIGTERM, or inside
    `ends_by_itself`, it is only noted: they end the process in their own time, with statuses of
    their own, which is why the signal is remembered here.
    """
    caught = Caught()
    sys.unraisablehook = caught.send_again
    caught.listen()
    _watching.append(caught)
    try:
        yield caught
    finally:
        _watching.pop()
        caught.stop_listening()


def say(message: str) -> None:
    """One line on standard error, whatever line breaks the message has."""
    tell_error(" ".join(message.split()))

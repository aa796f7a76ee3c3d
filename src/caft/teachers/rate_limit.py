"""When the next call may go out. Pure: the clock and the dice are handed in."""

from __future__ import annotations

from enum import Enum

LONGEST_BACK_OFF = 60.0
"""Seconds that a back-off grows to."""

LONGEST_RETRY_AFTER = 600.0
"""Seconds that a server may ask us to wait; a longer wait is for the next run."""


def back_off(retry: int, first: float, asked: float | None, draw: float) -> float:
    """Seconds before retry number `retry` (from 0), doubling from `first`, jittered by `draw`.

    `draw` is in 0..1. The server's Retry-After is a lower bound: jitter only adds to it, so that
    callers who were turned away together do not come back together.
    """
    own = min(LONGEST_BACK_OFF, first * 2.0 ** min(retry, 30)) * (0.5 + draw)
    return own if asked is None else asked + min(own, 1.0) * draw


class Pace:
    """Spreads units evenly over a minute; None is no limit."""

    def __init__(self, per_minute: float | None) -> None:
        self._alone = 60.0 / per_minute if per_minute else 0.0
        self._seconds_a_unit = self._alone
        self._free_at = 0.0

    def share(self, askers: int) -> None:
        """From now on take an equal part: so many askers share the limit."""
        self._seconds_a_unit = self._alone * max(1, askers)

    def book(self, now: float, units: float) -> float:
        """Take `units` and return the seconds to wait before they may be used."""
        start = max(now, self._free_at)
        self._free_at = start + units * self._seconds_a_unit
        return start - now

    def correct(self, units: float) -> None:
        """Book more (or, below 0, fewer) units after the fact."""
        self._free_at += units * self._seconds_a_unit

    def hold(self, until: float) -> None:
        """Let nothing out before `until`: a server said so."""
        self._free_at = max(self._free_at, until)


class _State(Enum):
    closed = "closed"
    open = "open"
    probing = "probing"


class Circuit:
    """Opens after failures in a row, lets one probe through after a while, and gives up at last.

    `note` says in words why it is open, `broken` why it gave up; both are empty otherwise.
    """

    def __init__(self, failures: int, seconds: float, openings: int) -> None:
        self._limit, self._seconds, self._openings = failures, seconds, openings
        self._state = _State.closed
        self._in_row: list[tuple[str, bool]] = []
        self._opened, self._until = 0, 0.0
        self.note = self.broken = ""

    def ask(self, now: float) -> float:
        """Seconds to wait; 0 lets one call go, and an open circuit waits for that call's fate."""
        if self._state is _State.closed:
            return 0.0
        if self._state is _State.probing:
            return 0.1
        if now >= self._until:
            self._state = _State.probing
            return 0.0
        return self._until - now

    def succeed(self) -> None:
        """A reply came: the endpoint lives."""
        self._state, self._opened, self.note = _State.closed, 0, ""
        self._in_row.clear()

    def fail(self, now: float, reason: str, *, lasting: bool = False) -> None:
        """A call failed; `lasting` failures would not pass by waiting."""
        if self._state is _State.open:
            return  # in flight since before it opened: tells nothing new
        self._in_row.append((reason, lasting))
        if self._state is _State.probing or len(self._in_row) >= self._limit:
            self._open(now)

    def turn_away(self, now: float) -> None:
        """The endpoint lives but takes no more calls: no failure, but a probe must come again."""
        if self._state is _State.probing:
            self._state, self._until = _State.open, now + self._seconds

    def _open(self, now: float) -> None:
        self._opened += 1
        self._state = _State.open
        pause = min(600.0, self._seconds * 2 ** (self._opened - 1))
        self._until = now + pause
        told = f"{len(self._in_row)} calls in a row failed ({count_words(self._in_row)})"
        self.note = f"{told}; next try in {pause:.0f} s"
        if self._opened >= self._openings or all(lasting for _, lasting in self._in_row):
            self.broken = told


def count_words(failures: list[tuple[str, bool]]) -> str:
    """The reasons with their counts, commonest first: "8x HTTP 503, 2x timeout"."""
    reasons = [reason for reason, _ in failures]
    ranked = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))
    return ", ".join(f"{reasons.count(reason)}x {reason}" for reason in ranked[:4])

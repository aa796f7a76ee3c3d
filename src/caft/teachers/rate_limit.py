"""Decides when calls may be sent. Pure: time and random numbers are passed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from caft.teachers.config import EndpointConfig
from caft.teachers.outcome import Failed, Remedy

LONGEST_BACK_OFF = 60.0
"""Seconds that a back-off grows to."""

LONGEST_RETRY_AFTER = 600.0
"""The longest wait in seconds that a server may ask for; a longer one is left to the next run."""

FAILURES_IN_A_ROW = 10
"""After so many failed calls all calls pause."""

PAUSE_SECONDS, LONGEST_PAUSE = 30.0, 600.0
"""The first pause, and what it doubles up to."""

MOST_PAUSES = 5
"""After so many pauses without a reply between them the server counts as down."""


def back_off(retry: int, first: float, asked: float | None, draw: float) -> float:
    """Seconds before retry number `retry` (from 0), doubling from `first`, jittered by `draw`.

    `draw` is in 0..1. The server's Retry-After is a lower bound: jitter only adds to it, so that
    clients that were refused together do not return together.
    """
    own = min(LONGEST_BACK_OFF, first * 2.0 ** min(retry, 30)) * (0.5 + draw)
    return own if asked is None else asked + min(own, 1.0) * draw


class Pace:
    """Spreads units evenly over a minute; None is no limit."""

    def __init__(self, per_minute: float | None) -> None:
        self._alone = 60.0 / per_minute if per_minute else 0.0
        self._seconds_a_unit = self._alone
        self._free_at = 0.0

    def share(self, clients: int) -> None:
        """From now on use an equal part: this many clients share the limit."""
        self._seconds_a_unit = self._alone * max(1, clients)

    def book(self, now: float, units: float) -> float:
        """Take `units` and return the seconds to wait before they may be used."""
        start = max(now, self._free_at)
        self._free_at = start + units * self._seconds_a_unit
        return start - now

    def correct(self, units: float) -> None:
        """Book more (or, below 0, fewer) units after the fact."""
        self._free_at += units * self._seconds_a_unit

    def hold(self, until: float) -> None:
        """Send nothing before `until`, as a server asked."""
        self._free_at = max(self._free_at, until)


class Throttle:
    """Paces calls by the config's limits, by what the server asks for, and by how it fails.

    After failures in a row all calls pause; then one goes, and the others await its outcome.
    `note` is why calls pause, `message` is the server's last message about a failure.
    """

    def __init__(self, config: EndpointConfig, *, answered: bool) -> None:
        self._calls = Pace(config.requests_per_minute)
        self._tokens = Pace(config.tokens_per_minute)
        self._reply_tokens = config.max_tokens / 4
        self._reached, self._answered = False, answered
        self._failures: list[str] = []
        self._all_lasting = True
        self._pauses, self._until, self._probing = 0, 0.0, False
        self._verdict = self.note = self.message = ""

    def share(self, clients: int) -> None:
        """An endpoint limits a key, however many clients use it."""
        self._calls.share(clients)
        self._tokens.share(clients)

    def book(self, now: float, prompt_tokens: float) -> float:
        """Book a call and return the seconds to wait for it."""
        tokens = prompt_tokens + self._reply_tokens
        return max(self._calls.book(now, 1), self._tokens.book(now, tokens))

    def pause(self, now: float) -> float:
        """Seconds to wait while the server is down; 0 lets a call go."""
        if self._pauses and self._probing:
            return 0.1
        if self._pauses and now < self._until:
            return self._until - now
        self._probing = self._pauses > 0
        return 0.0

    def unsend(self) -> None:
        """Note that a call that was let go is not sent; the others must not await its outcome."""
        self._probing = False

    def succeed(self, completion_tokens: int) -> None:
        """Note a reply."""
        self._reached = self._answered = True
        self._end_pause()
        more = completion_tokens - self._reply_tokens
        self._tokens.correct(more)
        self._reply_tokens += 0.1 * more

    def fail(self, now: float, failed: Failed) -> str:
        """Note a failed call; returns why no more should be sent, or nothing."""
        self.message = failed.message or self.message
        self._reached |= not failed.unreachable
        asked = failed.retry_after or 0.0
        self._calls.hold(now + min(asked, LONGEST_RETRY_AFTER))
        if failed.remedy is Remedy.ask_user:
            return failed.reason + quote(failed.message)
        if asked > LONGEST_RETRY_AFTER:
            wait = f", and it asks to wait {asked:.0f} s"
            return failed.reason + wait + quote(failed.message)
        refused = failed.remedy is Remedy.leave_out
        if failed.busy and self._probing:
            self._probing, self._until = False, now + PAUSE_SECONDS
        elif refused and self._answered:
            self._end_pause()  # the server works, and refuses this one request
        elif not failed.busy:
            # An address that never answered is a wrong one, or a server that was not started.
            lasting = refused or (failed.unreachable and not self._reached)
            self._count_failure(now, failed.reason, lasting=lasting)
            return self._verdict and self._verdict + quote(self.message)
        return ""

    def give_up(self, now: float, failed: Failed) -> None:
        """Note the last retry of a request: refused every time, it counts as a failure."""
        if failed.busy:
            self._count_failure(now, failed.reason, lasting=False)

    def _end_pause(self) -> None:
        self._failures.clear()
        self._pauses, self._probing, self._all_lasting, self.note = 0, False, True, ""

    def _count_failure(self, now: float, reason: str, *, lasting: bool) -> None:
        """`lasting` failures would not pass by waiting."""
        if self._pauses and not self._probing:
            return  # sent before the pause, so its failure is no news
        self._failures.append(reason)
        self._all_lasting &= lasting
        if not self._probing and len(self._failures) < FAILURES_IN_A_ROW:
            return
        seconds = min(LONGEST_PAUSE, PAUSE_SECONDS * 2**self._pauses)
        self._pauses += 1
        self._probing, self._until = False, now + seconds
        failed = f"{len(self._failures)} calls in a row failed ({list_failures(self._failures)})"
        self.note = f"{failed}; next try in {seconds:.0f} s{quote(self.message)}"
        if self._pauses >= MOST_PAUSES or self._all_lasting:
            self._verdict = failed


def quote(message: str) -> str:
    """The end of an error with the server's own message, if there is one."""
    return f"; the server says: {message}" if message else ""


def list_failures(reasons: Iterable[str]) -> str:
    """The reasons with their counts, commonest first: "8x HTTP 503, 2x timeout"."""
    ranked = sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count}x {reason}" for reason, count in ranked[:4])

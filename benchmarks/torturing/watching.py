"""What a killed asker had bought, by the server's own log, and what is asked for again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from signal import Signals

from fake_server import FakeServer

from torturing.forks import Child
from torturing.tally import GOALS, Tally

_STATUSES = {Signals.SIGKILL: -9, Signals.SIGTERM: 143, Signals.SIGINT: 130}
_SECONDS = 60


@dataclass
class Watch:
    """One kill of someone who asks `server`, at most `at_once` questions at the same time."""

    tally: Tally
    part: str
    name: str
    server: FakeServer
    at_once: int = 8
    kept: set[str] = field(default_factory=set)
    calls: int = 0

    def see_status(
        self, child: Child, status: int, ending: Signals, also: Sequence[int] = ()
    ) -> None:
        """A signal has the shell's status; work that was just done may end with 0."""
        self.tally.add(self.part, "kills")
        for goal in GOALS[:3]:
            self.tally.add(self.part, goal, 0)
        if status not in (_STATUSES[ending], 0, *also):
            self._fail("wrong_status", f"{status}: {child.last_line()}")

    def see_arrived(self, read_asked: Callable[[], set[str]], ending: Signals) -> None:
        """Replies that the server wrote are in the ledger.

        At a SIGKILL as many as are asked at once may be on the wire, and on the way to the disk.
        """
        end = time.monotonic() + _SECONDS
        while self.server.under_way and time.monotonic() < end:
            time.sleep(0.005)
        self.kept, self.calls = read_asked(), len(self.server.log)
        missing = len(set(self.server.bought()) - self.kept)
        if missing > (2 * self.at_once if ending is Signals.SIGKILL else 0):
            self._fail("lost", f"{missing} replies that were written are not kept")

    def see_bought_once(self) -> None:
        """What was in the ledger after the kill was not asked for again."""
        later = [call.question for call in list(self.server.log)[self.calls :]]
        self.tally.add(self.part, "replies", len(self.server.bought()))
        if again := self.kept.intersection(later):
            self.tally.add(self.part, "bought_twice_after_arrival", len(again) - 1)
            self._fail("bought_twice_after_arrival", f"{len(again)}, such as {min(again)!r}")

    def _fail(self, what: str, line: str) -> None:
        self.tally.fail(self.part, what, f"{self.name}: {line}")

"""The progress of asking, for a bar, a log or a terminal line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AskProgress:
    """One moment of the asking.

    `done` of `total` requests are settled, `from_ledger` of them without a call and `failed`
    without a reply. `calls`, `usd` and `seconds` are this run's. `note` is the reason if progress
    has stopped.
    """

    done: int
    total: int
    from_ledger: int = 0
    failed: int = 0
    calls: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    note: str = ""

    @property
    def replies(self) -> int:
        """Requests that have a reply, from the ledger or by a call."""
        return self.done - self.failed

    @property
    def replies_per_second(self) -> float:
        """Replies by calls, a second; 0 at the start."""
        return (self.replies - self.from_ledger) / self.seconds if self.seconds > 0 else 0.0

    def line(self) -> str:
        """One line of text: progress, rate, cost, time left."""
        settled = self.done - self.from_ledger
        rate = settled / self.seconds if self.seconds > 0 else 0.0
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate > 0 else ""
        note = f" ({self.note})" if self.note else ""
        failed = f", {self.failed} without one" if self.failed else ""
        return (
            f"{self.replies}/{self.total} replies{failed}, {self.from_ledger} from the ledger, "
            f"{self.replies_per_second:.1f}/s, {self.usd:.4f} USD{left}{note}"
        )


Watcher = Callable[[AskProgress], None]
"""Is called with the progress a few times a second, from the asking thread: be quick."""

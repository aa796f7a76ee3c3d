"""What may be spent on one model, and what was. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Hard limits on what the ledger may hold of one model; None is no limit."""

    usd: float | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What one model has cost so far.

    `unsure_usd` is for calls that never came back, at their worst; `reserved_usd` for those in
    flight; `in_flight` counts them.
    """

    calls: int = 0
    usd: float = 0.0
    unsure_usd: float = 0.0
    reserved_usd: float = 0.0
    in_flight: int = 0

    def fits(self, caps: Caps, worst: float) -> bool:
        """Whether one more call of that worst cost stays within the caps."""
        total = self.usd + self.unsure_usd + self.reserved_usd + worst
        dear = caps.usd is not None and total > caps.usd + 1e-12
        return not dear and not self.used_up(caps)

    def used_up(self, caps: Caps) -> bool:
        """Whether no call at all is left, whatever becomes of those in flight."""
        return caps.calls is not None and self.calls >= caps.calls

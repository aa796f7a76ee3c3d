"""What becomes of one call: a reply, or a failure with what helps against it. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum

_ADDRESS_OR_MODEL = (404, 405, 410)
_AGAIN = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A reply that came. Token counts are None where the server did not say."""

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    seconds: float = 0.0


class Remedy(Enum):
    """What helps against a failed call: waiting, leaving this request out, or the user."""

    wait = "wait"
    leave_out = "leave_out"
    ask_user = "ask_user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A call without a reply: why, in words without secrets, and what the server `said` to it.

    `maybe_charged` where the server may have done the work; `busy` where it lives and only asks
    for fewer calls; `unreachable` where nobody listens. `retry_after` is how many seconds it asks
    to wait, if it does.
    """

    reason: str
    said: str = ""
    remedy: Remedy = Remedy.wait
    maybe_charged: bool = False
    busy: bool = False
    unreachable: bool = False
    retry_after: float | None = None


def classify_status(status: int, code: str, message: str, headers: Mapping[str, str]) -> Failed:
    """What an HTTP error means for us; `message` is the server's, already without secrets."""
    told = " ".join(message.split())
    reason = f"HTTP {status}"
    with_words = f"{reason}: {told}" if told else reason
    if status == 401:
        return Failed(reason=f"{reason}: the key was refused", said=told, remedy=Remedy.ask_user)
    if status == 402 or "insufficient_quota" in code:
        credit = f"{reason}: no credit left{told and ': ' + told}"
        return Failed(reason=credit, remedy=Remedy.ask_user)
    if status in _ADDRESS_OR_MODEL:
        return Failed(reason=with_words, remedy=Remedy.ask_user)
    if status in _AGAIN or status >= 500:
        wait = read_retry_after(headers, time.time())
        late = status in (504, 524)  # a gateway gave up waiting for work that was being done
        return Failed(
            reason=reason, said=told, busy=status == 429, retry_after=wait, maybe_charged=late
        )
    return Failed(reason=with_words, remedy=Remedy.leave_out)


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait, from either header or a date; None if it does not."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None

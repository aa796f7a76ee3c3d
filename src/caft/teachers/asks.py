"""Requests made ready to be sent, and those among them that the ledger has a reply to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caft.teachers.address import is_loopback, same_place
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.finish import Finish, read_finish
from caft.teachers.ledger import Ledger
from caft.teachers.prices import look_up_price, worst_usd
from caft.teachers.replies import (
    Reply,
    Request,
    old_reply_key,
    reply_key,
    token_limits,
    write_body,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request made ready: its body, its keys in the ledger and the most it can cost.

    `old_key` is that of ledgers that did not look at who was asked.
    """

    key: str
    old_key: str
    attempt: int
    body: dict[str, Any]
    worst_usd: float


def prepare(request: Request, config: OpenAITeacherConfig) -> Ask:
    """The request's body, keys and worst cost under this config; 0 where no price is known."""
    body = write_body(request, config)
    price = look_up_price(config)
    longest = max(token_limits(body), default=config.max_tokens)
    return Ask(
        reply_key(body, request.attempt, config.base_url or ""),
        old_reply_key(body, request.attempt),
        request.attempt,
        body,
        worst_usd(price, body, longest) if price else 0.0,
    )


def find_replies(
    ledger: Ledger, asks: Sequence[Ask], config: OpenAITeacherConfig
) -> dict[str, Reply]:
    """The replies that the ledger has, by the asks' keys; none is written under another key.

    A reply under an old key serves where it comes from the same address, where it was paid for,
    since money is never lost, and where nothing would be paid now. What a mock server wrote for
    nothing thus serves no paid run.
    """
    found = ledger.replies([ask.key for ask in asks])
    older = {ask.old_key: ask for ask in asks if ask.key not in found}
    here = same_place(config.base_url or "")
    for reply, endpoint in ledger.replies_and_endpoints(list(older)):
        ask = older[reply.key]
        free = ask.worst_usd == 0 and is_loopback(config.base_url)
        serves = same_place(endpoint) == here or reply.usd > 0 or free
        # What ended in a server's fault was kept as a reply by mistake.
        if serves and read_finish(reply.finish_reason) is not Finish.failed:
            found[ask.key] = reply
    return found

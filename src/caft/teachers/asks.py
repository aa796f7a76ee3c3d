"""Requests made ready to be sent, and those among them that the ledger has a reply to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caft.teachers.address import is_loopback, same_place
from caft.teachers.config import OpenAITeacherConfig, PriceConfig
from caft.teachers.finish import Finish, read_finish
from caft.teachers.ledger import Arrival, Ledger
from caft.teachers.outcome import Answered
from caft.teachers.prices import cost_usd, look_up_price, worst_usd
from caft.teachers.replies import (
    Request,
    TeacherReply,
    old_reply_key,
    reply_key,
    token_limits,
    write_body,
)

CHARACTERS_A_TOKEN = 4


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
) -> dict[str, TeacherReply]:
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


def write_arrival(
    ask: Ask, answer: Answered, config: OpenAITeacherConfig, price: PriceConfig
) -> Arrival:
    """A reply as the ledger keeps it; tokens that nobody counted are estimated."""
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    if prompt is None:
        prompt = len(json.dumps(ask.body["messages"])) // CHARACTERS_A_TOKEN
    if completion is None:
        # A body that was too large to read was paid for up to the last token.
        unread = answer.finish_reason == "too_large"
        completion = config.max_tokens if unread else len(answer.text) // CHARACTERS_A_TOKEN + 1
    usd = cost_usd(price, prompt, completion) if answer.usd is None else answer.usd
    reply = TeacherReply(
        key=ask.key, text=answer.text, finish_reason=answer.finish_reason,
        prompt_tokens=prompt, completion_tokens=completion, usd=usd, seconds=answer.seconds,
        counted=answer.completion_tokens is not None,
    )  # fmt: skip
    return Arrival(
        reply=reply, attempt=ask.attempt, request=json.dumps(ask.body, ensure_ascii=False),
        endpoint=config.base_url or "",
        usage_estimated=answer.prompt_tokens is None or not reply.counted,
    )  # fmt: skip

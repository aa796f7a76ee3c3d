"""Requests, replies, and their rows in the ledger. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from caft.teachers.address import same_place
from caft.teachers.config import (
    EndpointConfig,
    MaxTokensField,
    OpenAITeacherConfig,
    PriceConfig,
)
from caft.teachers.outcome import Answered, Failed
from caft.teachers.prices import cost_usd, count_bytes, look_up_price, worst_usd
from caft.teachers.words import well_formed
from caft.text.thinking import find_thinking

BYTES_A_TOKEN = 4

TOP_TOKENS = 20
"""The most alternatives of a token that the protocol gives."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: turns of (role, content), and the number of the attempt, from 0."""

    messages: tuple[tuple[str, str], ...]
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request's body, its keys in the ledger and the most it can cost.

    `old_key` is that of earlier ledgers, which did not include the endpoint.
    """

    key: str
    old_key: str
    attempt: int
    body: dict[str, object]
    worst_usd: float

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return count_bytes(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherReply:
    """The reply to one request, or in `failure` the reason for having none.

    `usd` and `seconds` are its cost when it was bought, or the most that calls without a reply may
    have been charged; `from_ledger` if that was before this run,
    which pays nothing for it. `counted`: the tokens are the server's own count. `reasoning` is what
    the model thought first, None if it is not known to have done so.
    """

    key: str
    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    from_ledger: bool = False
    counted: bool = True
    failure: str = ""
    reasoning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """A reply and its request as the ledger keeps them.

    `usage_estimated` where the server did not count all tokens.
    """

    reply: TeacherReply
    attempt: int
    request: str
    endpoint: str
    usage_estimated: bool


def prepare(request: Request, config: EndpointConfig) -> PreparedRequest:
    """The request's body, keys and worst cost under this config; 0 where no price is known."""
    turns = [{"role": role, "content": well_formed(text)} for role, text in request.messages]
    body = _write_body(turns, request.attempt, config)
    price, longest = look_up_price(config), max(token_limits(config))
    return PreparedRequest(
        key=make_key(body, request.attempt, config),
        old_key=digest([body, request.attempt]),
        attempt=request.attempt,
        body=body,
        worst_usd=worst_usd(price, turns, longest, config.extra) if price else 0.0,
    )


def make_key(body: Mapping[str, object], attempt: int, config: EndpointConfig) -> str:
    """The key of a request: sha256 over endpoint, model, messages, sampling settings, attempt."""
    return digest([same_place(config.base_url or ""), dict(body), attempt])


def _write_body(
    turns: list[dict[str, str]], attempt: int, config: EndpointConfig
) -> dict[str, object]:
    """Everything that the reply can depend on, except the endpoint."""
    body: dict[str, object] = {
        "model": config.model,
        "messages": turns,
        config.max_tokens_field.value: config.max_tokens,
    }
    temperature = config.temperature
    if attempt and temperature is not None and isinstance(config, OpenAITeacherConfig):
        temperature = config.reask_temperature
    optional = {
        "temperature": temperature,
        "top_p": config.top_p,
        "seed": None if config.seed is None else config.seed + attempt,
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    return body | config.extra


def token_limits(config: EndpointConfig) -> list[int]:
    """The limits of the reply's length in a request's body; `extra` may add another one."""
    body = {config.max_tokens_field.value: config.max_tokens} | config.extra
    return [body[field.value] for field in MaxTokensField if field.value in body]


def for_alternatives(config: EndpointConfig) -> EndpointConfig:
    """The endpoint as it is asked for the likeliest first tokens, whose reply is their list.

    The temperature is 1, since some servers give the probabilities that they draw from.
    """
    dropped = {field.value for field in MaxTokensField} | {"temperature", "top_p"}
    extra = {name: value for name, value in config.extra.items() if name not in dropped}
    extra |= {"logprobs": True, "top_logprobs": TOP_TOKENS}
    asked = replace(config, max_tokens=1, temperature=1.0, top_p=None, seed=None, extra=extra)
    return replace(asked, attempts=1) if isinstance(asked, OpenAITeacherConfig) else asked


def asks_alternatives(config: EndpointConfig) -> bool:
    """Whether this is what `for_alternatives` made."""
    return config.max_tokens == 1 and config.extra.get("top_logprobs") == TOP_TOKENS


def digest(value: object) -> str:
    """The ledger's key of what a reply depends on."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def make_entry(
    request: PreparedRequest, answer: Answered, config: EndpointConfig, price: PriceConfig
) -> LedgerEntry:
    """A reply as the ledger keeps it; tokens that the server did not count are estimated.

    A count of 0 is none for a prompt, and for a reply that has a text.
    """
    prompt, completion = answer.prompt_tokens or None, answer.completion_tokens
    written = count_bytes(f"{answer.text}{answer.reasoning}")
    if not completion and written:
        completion = None
    estimated, counted = prompt is None, completion is not None
    if prompt is None:
        sent = [request.body["messages"], *filter(None, (config.extra,))]
        prompt = sum(len(json.dumps(part)) for part in sent) // BYTES_A_TOKEN
    if completion is None:
        # A body that was too large to read was paid for up to the last token.
        unread = answer.finish_reason == "too_large"
        completion = max(token_limits(config)) if unread else written // BYTES_A_TOKEN + 1
    reply = TeacherReply(
        key=request.key,
        text=(asks_alternatives(config) and answer.alternatives) or answer.text,
        finish_reason=answer.finish_reason,
        prompt_tokens=prompt,
        completion_tokens=completion,
        # A price that a user gives holds also where the server reports a cost of 0, which is none
        # (the provider sends the bill), or a gift that may end: a cap must not be exceeded.
        usd=answer.usd or cost_usd(price, prompt, completion),
        seconds=answer.seconds,
        counted=counted,
        reasoning=answer.reasoning or find_thinking(answer.text),
    )
    return LedgerEntry(
        reply=reply,
        attempt=request.attempt,
        request=json.dumps(request.body, ensure_ascii=False),
        endpoint=config.base_url or "",
        usage_estimated=estimated or not counted,
    )


def unsure_usd(request: PreparedRequest, failed: Failed, price: PriceConfig) -> float:
    """What a call without a reply counts as: what the server counts, else the most it can cost."""
    if not failed.maybe_charged:
        return 0.0
    if failed.usage is None:
        return request.worst_usd
    prompt, completion, usd = failed.usage
    if usd or prompt is None or completion is None:
        return usd or request.worst_usd
    return cost_usd(price, prompt, completion)

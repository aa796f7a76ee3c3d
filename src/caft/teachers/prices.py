"""Prices of calls, limits of spending on a model, and what was spent. Pure."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from caft.errors import UserError, count_of
from caft.teachers.address import is_loopback
from caft.teachers.api_key import check_address, read_key
from caft.teachers.config import EndpointConfig, OpenAITeacherConfig, PriceConfig

_BATCH_FACTORS = {"api.openai.com": 0.5}
"""A batch's price as a part of the live one, where the provider documents it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Hard limits on what the ledger may hold of one model; None is no limit."""

    usd: float | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What one model has cost so far.

    `unsure_usd` is for calls without a reply, at what the server counted or else their highest
    cost; `reserved_usd` for those in flight; `in_flight` counts those that may end soon, which
    those in a batch do not.
    """

    calls: int = 0
    usd: float = 0.0
    unsure_usd: float = 0.0
    reserved_usd: float = 0.0
    in_flight: int = 0

    def fits(self, caps: Caps, worst: float) -> bool:
        """Whether one more call of that highest cost stays within the caps."""
        total = self.usd + self.unsure_usd + self.reserved_usd + worst
        dear = caps.usd is not None and total > caps.usd + 1e-12
        return not dear and not self.used_up(caps)

    def used_up(self, caps: Caps) -> bool:
        """Whether no call at all is left, whatever the outcome of those in flight."""
        return caps.calls is not None and self.calls >= caps.calls


def check_paid(config: EndpointConfig, *, pays: bool) -> None:
    """UserError for an endpoint that cannot be asked; unless it `pays` it needs no price, no key.

    Before anything is loaded or sent.
    """
    check_address(config, _describe_prices(config))
    look_up_price(config)
    if pays:
        read_key(config, os.environ)
        find_price(config)


def _describe_prices(config: EndpointConfig) -> str:
    """The prices that are missing, for messages; "" where none is needed."""
    if config.model in config.prices or is_loopback(config.base_url):
        return ""
    unless = "" if config.base_url else ", unless it is on this machine"
    return f"{missing}{unless}" if (missing := missing_prices(config)) else ""


def find_price(config: EndpointConfig) -> PriceConfig:
    """The model's price; UserError if none is known, or where a budget has nothing to count."""
    price = look_up_price(config)
    if price is None:
        raise UserError(
            f"no price is known for {config.model} at {config.base_url}; give "
            f"{missing_prices(config)} (0 where it really costs nothing)"
        )
    return price


def price_settings(config: EndpointConfig) -> str:
    """The names of the two settings that hold a model's price, for messages."""
    return " and ".join(_settings(config))


def missing_prices(config: EndpointConfig) -> str:
    """Those of the two settings that are not given, for messages."""
    return " and ".join(name for name, usd in _settings(config).items() if usd is None)


def _settings(config: EndpointConfig) -> dict[str, float | None]:
    return {
        f"{config.group}.usd_per_million_prompt_tokens": config.usd_per_million_prompt_tokens,
        f"{config.group}.usd_per_million_completion_tokens": (
            config.usd_per_million_completion_tokens
        ),
    }


def look_up_price(config: EndpointConfig) -> PriceConfig | None:
    """Each of the endpoint's own price settings, else its table's; without any, 0 on loopback.

    None if one is unknown, on loopback too: who gives one price has forgotten the other. That of a
    batch where the teacher sends batches. UserError if a budget has nothing to count, and if the
    price of a batch is unknown.
    """
    prompt, completion = _settings(config).values()
    known = config.prices.get(config.model or "")
    if known is None and prompt is None and completion is None and is_loopback(config.base_url):
        known = PriceConfig()
    if known is not None:
        prompt = known.prompt if prompt is None else prompt
        completion = known.completion if completion is None else completion
    if prompt is None or completion is None:
        return None
    price = PriceConfig(prompt=prompt, completion=completion)
    if config.budget_usd is not None and price.prompt + price.completion == 0:
        raise UserError(
            f"{config.group}.budget_usd is {config.budget_usd:g} but {config.model} has the price "
            f"0; give {price_settings(config)}, or cap calls with {config.group}.max_calls"
        )
    return _find_batch_price(config, price) if sends_batches(config) else price


def sends_batches(config: EndpointConfig) -> bool:
    """Whether requests go through the provider's batch interface."""
    return isinstance(config, OpenAITeacherConfig) and config.batch


def find_batch_factor(config: EndpointConfig) -> float | None:
    """What a batch costs as a part of the live price: the setting's, else the provider's.

    None if neither is known, and for a judge, which sends no batches.
    """
    if not isinstance(config, OpenAITeacherConfig):
        return None
    given = config.batch_price_factor
    return _BATCH_FACTORS.get(_host_of(config)) if given is None else given


def _host_of(config: EndpointConfig) -> str:
    return urlsplit(config.base_url or "").hostname or ""


def _find_batch_price(config: EndpointConfig, price: PriceConfig) -> PriceConfig:
    factor = find_batch_factor(config)
    if price.prompt + price.completion == 0:
        return price
    if factor is None:
        raise UserError(
            f"{config.group}.batch is true, and what a batch costs at {_host_of(config)} is not "
            f"known; give {config.group}.batch_price_factor (0.5 where it costs half)"
        )
    return PriceConfig(prompt=price.prompt * factor, completion=price.completion * factor)


def cost_usd(price: PriceConfig, prompt_tokens: float, completion_tokens: float) -> float:
    """USD for that many tokens."""
    return (prompt_tokens * price.prompt + completion_tokens * price.completion) / 1e6


def usd_form(usd: float) -> str:
    """The format of a sum of about so many USD: cents, or below one dollar their hundredths."""
    return ",.2f" if usd >= 1 else ".4f"


def count_bytes(value: object) -> int:
    """Of a text, or of a value as JSON, in UTF-8: its tokens go by these in every script."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return len(text.encode("utf-8", "replace"))


def worst_usd(
    price: PriceConfig,
    turns: Sequence[Mapping[str, str]],
    max_tokens: int,
    extra: Mapping[str, object] | None = None,
) -> float:
    """The most that one call with these turns can cost.

    A token is at least one byte of the prompt, and the chat template adds some to every turn. What
    a server makes of `extra` is not known: a form of the reply, or tools, may stand in the prompt.
    """
    prompt_bytes = sum(map(count_bytes, [turns, extra] if extra else [turns]))
    return cost_usd(price, prompt_bytes + 32 * len(turns), max_tokens)


def explain_cap(
    config: EndpointConfig,
    spending: Spending,
    missing_worst_usd: Sequence[float],
) -> str:
    """Which cap is reached, and how it would have to be set for the replies that are missing.

    What they would cost goes by what the ledger's calls did.
    """
    group, missing = config.group, len(missing_worst_usd)
    worst = sum(missing_worst_usd)
    paid = spending.usd / spending.calls if spending.calls else 0.0
    likely = min(worst, missing * paid) if paid else worst
    cost = (
        f"{count_of(missing, 'more reply')} would cost about {likely:.4f} USD, at most {worst:.4f}"
    )
    if spending.used_up(Caps(calls=config.max_calls)):
        return (
            f"{group}.max_calls is {config.max_calls} and {count_of(spending.calls, 'call')} "
            f"{'was' if spending.calls == 1 else 'were'} made; "
            f"{cost}: set {group}.max_calls={spending.calls + missing} or more, and run again"
        )
    spent = spending.usd + spending.unsure_usd
    unsure = f", {spending.unsure_usd:.4f} of it for calls without a response"
    reserved = f" and up to {spending.reserved_usd:.4f} are for calls under way"
    return (
        f"{group}.budget_usd is {config.budget_usd:g} and {spent:.4f} USD are spent"
        f"{unsure if spending.unsure_usd else ''}{reserved if spending.reserved_usd else ''}, so a "
        f"call of up to {max(missing_worst_usd):.4f} USD does not fit; {cost}: set "
        f"{group}.budget_usd={_round_up(spent + spending.reserved_usd + worst)} or more, and run "
        "again"
    )


def _round_up(usd: float) -> str:
    """Whole cents, and more digits where cents would say nothing; never less than `usd`."""
    digits = 2 if usd >= 0.1 else 6
    return f"{math.ceil(usd * 10**digits) / 10**digits:.{digits}f}"

"""What calls cost: USD from tokens. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from caft.errors import UserError
from caft.teachers.address import is_loopback
from caft.teachers.caps import Caps, Spending
from caft.teachers.config import OpenAITeacherConfig, PriceConfig


def find_price(config: OpenAITeacherConfig) -> PriceConfig:
    """The model's price; UserError where none is known, or where a budget has nothing to count."""
    price = look_up_price(config)
    if price is None:
        raise UserError(
            f"no price is known for {config.model} at {config.base_url}; give "
            f"{price_settings(config)} (0 where it really costs nothing)"
        )
    return price


def price_settings(config: OpenAITeacherConfig) -> str:
    """The two settings that tell a model's price, for messages."""
    return (
        f"{config.group}.usd_per_million_prompt_tokens and "
        f"{config.group}.usd_per_million_completion_tokens"
    )


def look_up_price(config: OpenAITeacherConfig) -> PriceConfig | None:
    """The teacher's own dials, then its table, then 0 on loopback; None where nobody knows.

    UserError where a budget has nothing to count.
    """
    dials = (config.usd_per_million_prompt_tokens, config.usd_per_million_completion_tokens)
    if dials != (None, None):
        price = PriceConfig(prompt=dials[0] or 0.0, completion=dials[1] or 0.0)
    elif config.model in config.prices:
        price = config.prices[config.model]
    elif is_loopback(config.base_url):
        price = PriceConfig()
    else:
        return None
    if config.budget_usd is not None and price.prompt + price.completion == 0:
        raise UserError(
            f"{config.group}.budget_usd is {config.budget_usd:g} but {config.model} has the price "
            f"0; give {price_settings(config)}, or cap calls with {config.group}.max_calls"
        )
    return price


def cost_usd(price: PriceConfig, prompt_tokens: float, completion_tokens: float) -> float:
    """USD for that many tokens."""
    return (prompt_tokens * price.prompt + completion_tokens * price.completion) / 1e6


def worst_usd(price: PriceConfig, body: Mapping[str, Any], max_tokens: int) -> float:
    """The most that one call can cost.

    A token is at least one byte of the prompt, and the chat template adds some to every turn.
    """
    turns = body["messages"]
    prompt_bytes = len(json.dumps(turns, ensure_ascii=False).encode("utf-8", "replace"))
    return cost_usd(price, prompt_bytes + 32 * len(turns), max_tokens)


def explain_cap(
    config: OpenAITeacherConfig,
    spending: Spending,
    bought_usd: Sequence[float],
    missing_worst_usd: Sequence[float],
) -> str:
    """Which cap is reached, and how it would have to be set for the replies that are missing."""
    group, missing = config.group, len(missing_worst_usd)
    worst = sum(missing_worst_usd)
    likely = missing * sum(bought_usd) / len(bought_usd) if bought_usd else worst
    cost = f"{missing} more replies would cost about {likely:.4f} USD, at most {worst:.4f}"
    if spending.used_up(Caps(usd=config.budget_usd, calls=config.max_calls)):
        return (
            f"{group}.max_calls is {config.max_calls} and {spending.calls} calls were made; "
            f"{cost}: set {group}.max_calls={spending.calls + missing} or more, and run again"
        )
    spent = spending.usd + spending.unsure_usd
    unsure = f", {spending.unsure_usd:.4f} of it for calls that never came back"
    return (
        f"{group}.budget_usd is {config.budget_usd:g} and {spent:.4f} USD are spent"
        f"{unsure if spending.unsure_usd else ''}, too near to it for a call of "
        f"{max(missing_worst_usd):.4f} USD at most; {cost}: set "
        f"{group}.budget_usd={_round_up(spent + worst)} or more, and run again"
    )


def _round_up(usd: float) -> str:
    """Whole cents, and more digits where cents would say nothing; never less than `usd`."""
    digits = 2 if usd >= 0.1 else 6
    return f"{math.ceil(usd * 10**digits) / 10**digits:.{digits}f}"

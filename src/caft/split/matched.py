"""A random arm at the cost of the entropy arm. Pure.

It takes questions in a seeded order until the entropy arm's budget is reached: as many teacher
calls or tokens, matching both what was asked and what was kept. Without this arm it stays unknown
whether entropy helped or the rationales alone did (the paper has no such arm).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from caft.records import Question, Rationale
from caft.split.config import Match


@dataclass(frozen=True, slots=True)
class Price:
    """The cost of asking a question, and of the part that may be trained on."""

    asked: float
    kept: float


def price_questions(
    rationales: Iterable[Rationale], match: Match, text_tokens: Mapping[str, int]
) -> dict[str, Price]:
    """The price of every question with `rationales`, all of its attempts included.

    With `calls`: its attempts, as billed; 1 or 0 kept. With `tokens`: the tokens that the teacher
    charged or, if it charged none (worked solutions), the student's tokens of the text; kept are
    the student's tokens of the accepted text. `text_tokens` are the student's tokens by text.
    """
    prices: dict[str, Price] = {}
    for rationale in rationales:
        before = prices.get(rationale.question_id, Price(0.0, 0.0))
        if match is Match.calls:
            price = Price(before.asked + 1, max(before.kept, float(rationale.accepted)))
        else:
            read = text_tokens[rationale.text]
            price = Price(
                before.asked + (rationale.completion_tokens or read),
                before.kept + (read if rationale.accepted else 0),
            )
        prices[rationale.question_id] = price
    return prices


def total(prices: Iterable[Price]) -> Price:
    """The sum of both parts."""
    listed = list(prices)
    return Price(sum(price.asked for price in listed), sum(price.kept for price in listed))


def shuffle_questions(questions: Sequence[Question], seed: int) -> list[Question]:
    """The order in which the random arm takes questions: a function of `seed` alone."""
    order = list(questions)
    Random(f"matched split {seed}").shuffle(order)
    return order


def count_needed(costs: Sequence[float], budget: float) -> int:
    """How many, from the first on, reach `budget`; all of them if even those do not.

    The last one is left out if the sum is nearer to the budget without it.
    """
    spent = 0.0
    for count, cost in enumerate(costs):
        if spent + cost >= budget:
            return count + (budget - spent >= cost / 2)
        spent += cost
    return len(costs)


def next_count(costs: Sequence[float], budget: float, most: int) -> int:
    """How many to have asked after the next round, given the first `costs`: never far too many."""
    missing = budget - sum(costs)
    mean = sum(costs) / len(costs)
    step = int(missing / mean) if mean else most
    return min(most, len(costs) + max(1, step))


def place_matched(
    order: Sequence[str], taken: int, taught: str, sizes: Mapping[str, int]
) -> dict[str, str]:
    """The first `taken` ids in the class that is taught rationales, the others in the rest.

    `sizes` are the entropy arm's class sizes: the rest is divided in proportion to them.
    """
    placed = dict.fromkeys(order[:taken], taught)
    others = [name for name in sizes if name != taught]
    remaining, left = list(order[taken:]), sum(sizes[name] for name in others)
    for name in others:
        share = round(len(remaining) * sizes[name] / left) if left else len(remaining)
        placed |= dict.fromkeys(remaining[:share], name)
        remaining, left = remaining[share:], left - sizes[name]
    return placed

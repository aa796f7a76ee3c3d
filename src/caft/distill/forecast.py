"""What the teacher's replies would cost. Pure: no network, no ledger, only their numbers.

Tokens are estimated at four bytes each, or from replies of the same model if the ledger has
any.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from caft.errors import count_of, noun_of
from caft.teachers.config import PriceConfig
from caft.teachers.prices import cost_usd, usd_form

BYTES_A_TOKEN = (3.0, 4.0, 5.0)
"""The fewest, the usual and the most; the fewest make the most tokens."""

PAPER_REPLY_TOKENS = 731
"""Mean length of a teacher's chain of thought in the paper (section 2 of our notes on it)."""

ENOUGH_REPLIES = 20


class Range(NamedTuple):
    """A guess with its bounds."""

    low: float
    likely: float
    high: float

    def text(self, form: str) -> str:
        """Its numbers in a format such as `.0f`."""
        if self.low == self.high:
            return f"{self.likely:{form}}"
        return f"about {self.likely:{form}} ({self.low:{form}} to {self.high:{form}})"


NOTHING = Range(0.0, 0.0, 0.0)


class Asked(NamedTuple):
    """The calls for one question: the bytes of each, how many are certain, and the most."""

    size: int
    certain: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostForecast:
    """What asking `questions` questions would take; `from_ledger` of them are paid already.

    Nothing is `asked` of a teacher that is no endpoint, and the ledger was not read; `model` is
    that of an endpoint.
    `in_batch` more are in a provider's batch that is out, and not asked for again. A refused reply
    may be followed by others. Tokens and USD are for the calls still to be made, `usd` None if no
    price is known; `note` is for people.
    """

    questions: int
    asked: bool = True
    from_ledger: int = 0
    in_batch: int = 0
    model: str | None = None
    calls: Range = NOTHING
    prompt_tokens: Range = NOTHING
    completion_tokens: Range = NOTHING
    usd: Range | None = NOTHING
    note: str = ""

    def line(self) -> str:
        """One line for a person."""
        if not self.asked:
            return "; ".join(filter(None, (count_of(self.questions, "question"), self.note)))
        usd = "USD unknown"
        if self.usd is not None:
            usd = f"{self.usd.text(usd_form(self.usd.likely))} USD"
        calls = self.calls.text(",.0f")
        out = f", {self.in_batch:,} in a batch that is out" if self.in_batch else ""
        return (
            f"{count_of(self.questions, 'question')}, {count_of(self.from_ledger, 'reply')} in the "
            f"ledger{out}; {calls} {noun_of(1 if calls == '1' else 2, 'call')}, "
            f"{self.prompt_tokens.text(',.0f')} tokens in, "
            f"{self.completion_tokens.text(',.0f')} tokens out, {usd}"
            f"{self.note and '; ' + self.note}"
        )


def forecast_cost(
    asked: Sequence[Asked],
    *,
    price: PriceConfig | None,
    max_tokens: int,
    seen: Sequence[tuple[int, int, int]] = (),
) -> CostForecast:
    """Calls, tokens and USD of what is asked, as ranges.

    `seen` are (bytes, prompt tokens, completion tokens) of replies that the ledger has of this
    model. The high end asks every question as often as it may be, at full length; retries after
    faults are not charged.
    """
    certain = sum(each.certain for each in asked)
    calls = Range(certain, certain, sum(each.most for each in asked))
    prompt = Range(
        *_prompt_tokens(sum(each.size * each.certain for each in asked), seen)[:2],
        _prompt_tokens(sum(each.size * each.most for each in asked), seen).high,
    )
    completion = _times(calls, _completion_tokens(max_tokens, seen))
    both = zip(prompt, completion, strict=True)
    return CostForecast(
        questions=len(asked),
        calls=calls,
        prompt_tokens=prompt,
        completion_tokens=completion,
        usd=Range(*(cost_usd(price, *tokens) for tokens in both)) if price else None,
    )


def add_ranges(ranges: Iterable[Range]) -> Range:
    """End by end."""
    return Range(*map(sum, zip(NOTHING, *ranges, strict=True)))


def _times(left: Range, right: Range) -> Range:
    return Range(*(one * other for one, other in zip(left, right, strict=True)))


def _prompt_tokens(size: int, seen: Sequence[tuple[int, int, int]]) -> Range:
    rates = [tokens / length for length, tokens, _ in seen if length]
    if len(rates) >= ENOUGH_REPLIES:
        return Range(*(rate * size for rate in _spread(rates)))
    most, usual, fewest = (size / each for each in BYTES_A_TOKEN)
    return Range(fewest, usual, most)


def _completion_tokens(max_tokens: int, seen: Sequence[tuple[int, int, int]]) -> Range:
    lengths = [float(tokens) for _, _, tokens in seen]
    if len(lengths) >= ENOUGH_REPLIES:
        return Range(*(min(length, max_tokens) for length in _spread(lengths)))
    usual = min(PAPER_REPLY_TOKENS, max_tokens)
    return Range(max(1.0, usual / 4), usual, max_tokens)


def _spread(values: Sequence[float]) -> Range:
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    mean = statistics.fmean(values)
    return Range(tenths[0], mean, max(tenths[-1], mean))

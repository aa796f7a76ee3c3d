"""What the teacher's answers would cost. Pure: no network, no ledger, only their numbers.

Tokens are guessed at four characters each until the ledger has replies of the same model; from
then on by what those took.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CHARACTERS_A_TOKEN = (3.0, 4.0, 5.0)
"""The fewest, the usual and the most; the fewest make the most tokens."""

PAPER_REPLY_TOKENS = 731
"""Mean length of a teacher's chain of thought in the paper (section 2 of our notes on it)."""

ENOUGH_REPLIES = 20


@dataclass(frozen=True, slots=True)
class Range:
    """A guess with its bounds."""

    low: float
    likely: float
    high: float

    def times(self, factor: Range) -> Range:
        """Bound by bound."""
        return Range(self.low * factor.low, self.likely * factor.likely, self.high * factor.high)

    def plus(self, other: Range) -> Range:
        """Bound by bound."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostForecast:
    """What asking `questions` questions would take; `from_ledger` of them are paid already.

    Tokens and USD are for the calls still to be made, `usd` None where no price is known; `note`
    is for people.
    """

    questions: int
    from_ledger: int
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    usd: Range | None
    note: str = ""

    def line(self) -> str:
        """One line for a person."""
        usd = "USD unknown" if self.usd is None else f"{_words(self.usd, '.4f')} USD"
        return (
            f"{self.questions} questions, {self.from_ledger} replies in the ledger; "
            f"{_words(self.calls, '.0f')} calls, {_words(self.prompt_tokens, '.0f')} tokens in, "
            f"{_words(self.completion_tokens, '.0f')} tokens out, {usd}"
            f"{self.note and '; ' + self.note}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """The longest reply in tokens, how often a question is asked, and what that costs.

    USD are per million tokens; None where no price is known.
    """

    usd_per_million_prompt: float | None
    usd_per_million_completion: float | None
    max_tokens: int
    attempts: int


def no_cost(questions: int) -> CostForecast:
    """The estimate of a teacher that is not called."""
    none = Range(0.0, 0.0, 0.0)
    return CostForecast(
        questions=questions,
        from_ledger=0,
        calls=none,
        prompt_tokens=none,
        completion_tokens=none,
        usd=none,
    )


def forecast_cost(
    request_characters: Sequence[int],
    from_ledger: int,
    tariff: Tariff,
    seen: Sequence[tuple[int, int, int]] = (),
) -> CostForecast:
    """Calls, tokens and USD of the requests that the ledger does not have, as ranges.

    `request_characters` are those of the missing requests. `seen` are (characters, prompt
    tokens, completion tokens) of replies that the ledger has of this model. The high end asks
    every question `attempts` times at full length; retries after faults are not charged.
    """
    count = len(request_characters)
    once = Range(count, count, count * tariff.attempts)
    mean = sum(request_characters) / count if count else 0.0
    prompt = once.times(_prompt_tokens(mean, seen))
    completion = once.times(_completion_tokens(tariff.max_tokens, seen))
    return CostForecast(
        questions=count + from_ledger,
        from_ledger=from_ledger,
        calls=once,
        prompt_tokens=prompt,
        completion_tokens=completion,
        usd=_price(prompt, completion, tariff),
    )


def _price(prompt: Range, completion: Range, tariff: Tariff) -> Range | None:
    of_prompt, of_completion = tariff.usd_per_million_prompt, tariff.usd_per_million_completion
    if of_prompt is None or of_completion is None:
        return None
    return _scale(prompt, of_prompt / 1e6).plus(_scale(completion, of_completion / 1e6))


def _prompt_tokens(characters: float, seen: Sequence[tuple[int, int, int]]) -> Range:
    rates = [tokens / length for length, tokens, _ in seen if length]
    if len(rates) >= ENOUGH_REPLIES:
        return _scale(_spread(rates), characters)
    most, usual, fewest = CHARACTERS_A_TOKEN
    return Range(characters / fewest, characters / usual, characters / most)


def _completion_tokens(max_tokens: int, seen: Sequence[tuple[int, int, int]]) -> Range:
    lengths = [float(tokens) for _, _, tokens in seen]
    if len(lengths) >= ENOUGH_REPLIES:
        return _spread(lengths)
    usual = min(PAPER_REPLY_TOKENS, max_tokens)
    return Range(usual / 4, usual, max_tokens)


def _spread(values: Sequence[float]) -> Range:
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Range(tenths[0], statistics.fmean(values), max(tenths[-1], statistics.fmean(values)))


def _scale(values: Range, factor: float) -> Range:
    return Range(values.low * factor, values.likely * factor, values.high * factor)


def _words(values: Range, form: str) -> str:
    if values.low == values.high:
        return f"{values.likely:{form}}"
    return f"about {values.likely:{form}} ({values.low:{form}} to {values.high:{form}})"

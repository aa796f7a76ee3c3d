"""When a written reply ends. Pure but for the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from caft.models.encoding import token_text
from caft.models.sampling import GREEDY, Sampling
from caft.models.thinking_cap import SpanWatch, ThinkingRules
from caft.protocols import Tokenizer
from caft.text.parsing import has_closed_marker

# The marker may be spread over several tokens: only the last few can have closed it.
_MARKER_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRules:
    """When a reply ends, and what is kept of it.

    It ends with one of `end_ids`, after its first closed marker (`stop_after_marker`), behind its
    first line that is not blank (`stop_after_line`), or at `max_new_tokens`. With `thinking`, no
    marker or line inside a thinking span ends it; where the span has a cap of its own, its tokens
    do not count towards `max_new_tokens`. `sampling` says how a token is chosen; the spread is that
    of the model's own distribution, whatever is drawn from.
    """

    max_new_tokens: int
    end_ids: tuple[int, ...]
    stop_after_marker: bool = True
    stop_after_line: bool = False
    with_spread: bool = False
    thinking: ThinkingRules | None = None
    sampling: Sampling = GREEDY

    @property
    def most_tokens(self) -> int:
        """The longest that a reply can get, its span included."""
        return self.max_new_tokens + (self.thinking.most_tokens if self.thinking else 0)


def has_ended(
    tokenizer: Tokenizer, tokens: Sequence[int], rules: ReplyRules, span: SpanWatch | None = None
) -> bool:
    """Whether the newest token of a reply, whose thinking `span` is watched, is its last."""
    if span and span.is_forced:
        return False
    answer = span.answer_of(tokens) if span else tokens
    capped = span and span.rules.max_tokens is not None
    return (
        tokens[-1] in rules.end_ids
        or len(tokens) - (span.thinking_tokens if span and capped else 0) >= rules.max_new_tokens
        or len(tokens) >= rules.most_tokens
        or (rules.stop_after_marker and _closes_marker(tokenizer, answer))
        or (rules.stop_after_line and bool(answer) and _ends_line(tokenizer, answer))
    )


def _closes_marker(tokenizer: Tokenizer, written: Sequence[int]) -> bool:
    # Most replies have no bracket yet, and to decode every tail takes longer than to look.
    tail = written[-_MARKER_TOKENS:]
    return (
        any(map(_brackets(tokenizer).__getitem__, tail))
        and has_closed_marker(tokenizer.decode(tail))
        # The line that the tail is cut out of may be a quote.
        and has_closed_marker(tokenizer.decode(written[_line_before(tokenizer, written) :]))
    )


def _line_before(tokenizer: Tokenizer, written: Sequence[int]) -> int:
    """Where the line begins, at the latest, that the tail's first token is in."""
    places = range(len(written) - _MARKER_TOKENS - 1, -1, -1)
    return next((at for at in places if "\n" in token_text(tokenizer, written[at])), 0)


class _Brackets(dict[int, bool]):
    """Whether a token's text has a closing bracket, of the tokens that were asked for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def __missing__(self, token: int) -> bool:
        self[token] = "]" in token_text(self.tokenizer, token)
        return self[token]


_brackets = lru_cache(maxsize=8)(_Brackets)


def _ends_line(tokenizer: Tokenizer, written: Sequence[int]) -> bool:
    newest = token_text(tokenizer, written[-1])
    if "\n" not in newest and "\r" not in newest:
        return False
    begun = tokenizer.decode(written).lstrip()
    return "\n" in begun or "\r" in begun

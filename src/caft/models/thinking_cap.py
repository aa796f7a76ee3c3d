"""Follows a reply's thinking span token by token, and closes it where it gets too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from caft.models.encoding import special_ids, token_text
from caft.models.thinking_span import ThinkingSpan, find_span
from caft.protocols import Tokenizer
from caft.text.thinking import find_spoken_marks

# A mark may be spread over several tokens.
_MARK_TOKENS = 24
# A mark's last token has one of these, or is the name of a channel.
_MARK_ENDS = (">", "]", "\u25b7", "\ufffd")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingRules:
    """How spans of one model are recognised and closed.

    A span of `max_tokens` that is still open is closed with `closing_ids`. `mark_ids` are the
    special tokens that its marks have, which a reply's text keeps.
    """

    span: ThinkingSpan
    closing_ids: tuple[int, ...]
    mark_ids: frozenset[int] = frozenset()
    max_tokens: int | None = None

    @property
    def most_tokens(self) -> int:
        """Tokens that a reply may have beyond those of its answer."""
        return 0 if self.max_tokens is None else self.max_tokens + len(self.closing_ids)


def thinking_rules(tokenizer: Tokenizer, max_tokens: int | None = None) -> ThinkingRules | None:
    """Rules for the span of the tokenizer's chat template; None if it has none."""
    span = find_span(tokenizer)
    if span is None:
        return None
    marks = tokenizer(span.opens + span.closing, add_special_tokens=False).input_ids
    return ThinkingRules(
        span=span,
        closing_ids=_encode_behind_word(span.closing, tokenizer),
        mark_ids=special_ids(tokenizer).intersection(marks),
        max_tokens=max_tokens,
    )


def _encode_behind_word(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Alone, the text would get the space that some tokenizers put before a first word."""
    word, whole = tokenizer(["so", f"so{text}"], add_special_tokens=False).input_ids
    alone = tokenizer(text, add_special_tokens=False).input_ids
    return tuple(whole[len(word) :] if whole[: len(word)] == word else alone)


def reply_text(tokenizer: Tokenizer, ids: Sequence[int], rules: ThinkingRules | None) -> str:
    """A reply's text without special tokens, but with those that mark its span."""
    if rules is None or not rules.mark_ids:
        return tokenizer.decode(ids, skip_special_tokens=True)
    hidden = special_ids(tokenizer) - rules.mark_ids
    return tokenizer.decode([token for token in ids if token not in hidden])


@dataclass(slots=True)
class SpanWatch:
    """One reply's span while the reply is written.

    `open_mark` is None where no span is open, and "" where the prompt opened it. `tokens` counts
    those of closed spans, with their marks; `starts` is where the open one began, and
    `answer_starts` where the last one ended.
    """

    tokenizer: Tokenizer
    rules: ThinkingRules
    open_mark: str | None
    written: int = 0
    tokens: int = 0
    starts: int = 0
    answer_starts: int = 0
    _recent: list[int] = field(default_factory=list)
    _forced: list[int] = field(default_factory=list)

    @property
    def thinking_tokens(self) -> int:
        """Tokens of all spans so far, an open one included."""
        return self.tokens + (self.written - self.starts if self.open_mark is not None else 0)

    @property
    def is_forced(self) -> bool:
        """Whether the next token is a part of the closing."""
        return bool(self._forced)

    def put(self, token: int) -> int:
        """The next token: the model's `token`, or one that closes the span."""
        if not self._forced and self._is_too_long():
            self._forced = list(self.rules.closing_ids)
        self.written += 1
        if not self._forced:
            self._read(token)
            return token
        token = self._forced.pop(0)
        if not self._forced:
            self._close()
        return token

    def answer_of(self, tokens: Sequence[int]) -> Sequence[int]:
        """Those of all `tokens` that may be an answer: none while the span is open."""
        return tokens[self.answer_starts :] if self.open_mark is None else ()

    def _is_too_long(self) -> bool:
        most = self.rules.max_tokens
        return most is not None and self.open_mark is not None and self.thinking_tokens >= most

    def _read(self, token: int) -> None:
        self._recent = [*self._recent[1 - _MARK_TOKENS :], token]
        if not _may_end_mark(self.tokenizer, self._recent):
            return
        text = self.tokenizer.decode(self._recent)
        marks = find_spoken_marks(text, self.open_mark)
        if not marks:
            return
        start, end, opens = marks[-1]
        if not opens:
            self._close()
        elif self.open_mark is None:
            self.open_mark = text[start:end]
            self.starts = self.written - self._tokens_from(self.open_mark)
        self._recent = []

    def _tokens_from(self, mark: str) -> int:
        """How many of the newest tokens hold the mark."""
        counts = range(1, len(self._recent) + 1)
        return next((n for n in counts if mark in self.tokenizer.decode(self._recent[-n:])), 1)

    def _close(self) -> None:
        # Before a mark that closes what nothing has opened, all counts as thought, as in grading.
        self.tokens = self.thinking_tokens if self.open_mark is not None else self.written
        self.open_mark, self.answer_starts, self._recent = None, self.written, []


def _may_end_mark(tokenizer: Tokenizer, recent: Sequence[int]) -> bool:
    """To decode all recent tokens at every step would take longer than to look."""
    newest = token_text(tokenizer, recent[-1])
    return any(sign in newest for sign in _MARK_ENDS) or any(
        "channel" in token_text(tokenizer, token) for token in recent[-8:]
    )

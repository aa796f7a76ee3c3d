"""Where an engine's reply ends: exactly where ours would. Pure but for the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from caft.errors import UserError
from caft.protocols import Tokenizer

if TYPE_CHECKING:
    from caft.models.generation import ReplyRules


class EngineReply(NamedTuple):
    """A greedy reply: the question it belongs to, its text, and its tokens, the end included."""

    question_id: str
    text: str
    tokens: int


class Engine(Protocol):
    """What writes a student's replies in our place. Nothing starts before the first reply."""

    @property
    def key(self) -> Mapping[str, object]:
        """What replies depend on besides the student: name, version, settings."""

    @property
    def version(self) -> str | None:
        """The engine's version, if it is known; a server is asked for it."""

    def check(self, prompt: Sequence[int]) -> None:
        """UserError if it cannot be used for this student; a server is asked with `prompt`."""

    def write(
        self, prompts: Mapping[str, tuple[int, ...]], rules: ReplyRules
    ) -> Iterator[EngineReply]:
        """Greedy replies to token prompts as they end."""

    def close(self) -> None:
        """Free what it holds; `write` starts it again."""


def refuse_sampling(rules: ReplyRules) -> None:
    """UserError where replies are to be drawn: engines draw with random numbers of their own."""
    if getattr(rules, "sampling", None):
        raise UserError(
            "replies are drawn at random, and other engines would draw other ones; use engine=own, "
            "or greedy replies"
        )


def find_end(tokenizer: Tokenizer, ids: Sequence[int], rules: ReplyRules) -> int | None:
    """How many of the tokens our own generator would have written; None if it would go on."""
    from caft.models.generation import has_ended

    return next((n for n in range(1, len(ids) + 1) if has_ended(tokenizer, ids[:n], rules)), None)


def read_ids(name: str, tokenizer: Tokenizer, ids: Sequence[int], rules: ReplyRules) -> EngineReply:
    """The reply in these tokens, cut at its end; the engine may have written on."""
    kept = ids[: find_end(tokenizer, ids, rules)]
    return EngineReply(name, tokenizer.decode(kept, skip_special_tokens=True), len(kept))


def read_text(
    name: str, tokenizer: Tokenizer, text: str, tokens: int | None, rules: ReplyRules
) -> EngineReply:
    """The reply in a text, cut at its end; `tokens` is the engine's own count of the whole text.

    What is cut off is found in the text's tokens: an engine may have written it with others.
    """
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    # The engine kept to the cap. Half a character comes back as more tokens than it was.
    end = find_end(tokenizer, ids, replace(rules, max_new_tokens=len(ids) + 1))
    if end is None or end == len(ids):
        # The end token has no text.
        return EngineReply(name, text, tokens or min(len(ids) + 1, rules.max_new_tokens))
    return EngineReply(name, tokenizer.decode(ids[:end], skip_special_tokens=True), end)

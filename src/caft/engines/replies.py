"""Where an engine's reply ends: exactly where ours would. Pure but for the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from caft.errors import UserError
from caft.protocols import Tokenizer
from caft.records import WrittenReply

if TYPE_CHECKING:
    from caft.models.reply_rules import ReplyRules


class Engine(Protocol):
    """What writes a student's replies in our place. Nothing starts before the first reply."""

    @property
    def key(self) -> Mapping[str, object]:
        """What replies depend on besides the student: name, version, settings."""

    @property
    def version(self) -> str | None:
        """The engine's version, if it is known; a server is asked for it."""

    def check(self, prompt: Sequence[int], most_tokens: int = 0) -> None:
        """UserError if it cannot be used for this student; a server is asked with `prompt`.

        `most_tokens` are those of the longest prompt with the longest reply.
        """

    def write(
        self, prompts: Mapping[str, tuple[int, ...]], rules: ReplyRules
    ) -> Iterator[WrittenReply]:
        """Greedy replies to token prompts as they end."""

    def close(self) -> None:
        """Free what it holds; `write` starts it again."""


def assert_plain(rules: ReplyRules) -> None:
    """Engines draw with numbers of their own, and close no span: the pipeline refuses both."""
    assert not rules.sampling.draws, "an engine's replies are greedy"
    assert not (rules.thinking and rules.thinking.max_tokens), "no engine closes a thinking span"


CUT = ("length", "abort")
"""What an engine says where it did not let a reply end."""


class End(NamedTuple):
    """How many of some tokens our own generator would have written, and those of its spans.

    `tokens` is None if it would go on.
    """

    tokens: int | None
    thinking_tokens: int


def find_end(
    tokenizer: Tokenizer, ids: Sequence[int], rules: ReplyRules, *, opened: bool = False
) -> End:
    """Where our own generator would have ended; `opened` if the prompt opens a thinking span."""
    from caft.models.reply_rules import has_ended
    from caft.models.thinking_cap import SpanWatch

    thinking = rules.thinking
    span = SpanWatch(tokenizer, thinking, "" if opened else None) if thinking else None
    for count, token in enumerate(ids, start=1):
        if span:
            span.put(token)
        if has_ended(tokenizer, ids[:count], rules, span):
            return End(count, span.thinking_tokens if span else 0)
    return End(None, span.thinking_tokens if span else 0)


def read_ids(
    name: str,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    rules: ReplyRules,
    *,
    opened: bool = False,
) -> WrittenReply:
    """The reply in these tokens, cut at its end; the engine may have written on."""
    from caft.models.thinking_cap import reply_text

    end = find_end(tokenizer, ids, rules, opened=opened)
    kept = ids[: end.tokens]
    text = reply_text(tokenizer, kept, rules.thinking)
    return WrittenReply(name, text, len(kept), tuple(kept), thinking_tokens=end.thinking_tokens)


def read_text(
    name: str,
    tokenizer: Tokenizer,
    text: str,
    tokens: int | None,
    rules: ReplyRules,
    *,
    opened: bool = False,
) -> WrittenReply:
    """The reply in a text, cut at its end; `tokens` is the engine's own count of the whole text.

    What is cut off is found in the text's tokens: an engine may have written it with others.
    """
    from caft.models.thinking_cap import reply_text

    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    # The engine kept to the cap. Half a character comes back as more tokens than it was.
    uncapped = replace(rules, max_new_tokens=len(ids) + 1)
    end, thought = find_end(tokenizer, ids, uncapped, opened=opened)
    if end is None or end == len(ids):
        # The end token has no text.
        count = tokens or min(len(ids) + 1, rules.max_new_tokens)
        return WrittenReply(name, text, count, thinking_tokens=thought)
    kept = reply_text(tokenizer, ids[:end], rules.thinking)
    return WrittenReply(name, kept, end, thinking_tokens=thought)


def refuse_cut(
    reply: WrittenReply,
    tokenizer: Tokenizer,
    rules: ReplyRules,
    *,
    opened: bool,
    engine: str,
    remedy: str,
) -> None:
    """UserError for a reply that has no end and fewer tokens than it may have.

    A limit of the engine's own has cut it, which no figure would show.
    """
    ids = reply.ids or tokenizer(reply.text, add_special_tokens=False, verbose=False).input_ids
    uncapped = replace(rules, max_new_tokens=len(ids) + 1)
    if (
        reply.tokens >= rules.max_new_tokens
        or find_end(tokenizer, ids, uncapped, opened=opened).tokens
    ):
        return
    raise UserError(
        f"question {reply.question_id}: {engine} cut the reply after {reply.tokens} of the "
        f"{rules.max_new_tokens} tokens that it may have, by a limit of its own; {remedy}, allow "
        "replies fewer tokens, or use engine=own"
    )

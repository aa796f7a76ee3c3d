"""Replies to several prompts, for tests that want them all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caft.models.generation import GeneratedReply, stream_replies
from caft.models.reply_rules import ReplyRules
from caft.protocols import CausalLM, Tokenizer


def generate_replies(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    rules: ReplyRules,
    *,
    rows: int = 128,
    **named: Any,
) -> list[GeneratedReply]:
    """In the order of the prompts; `named` as in `stream_replies`."""
    replies = dict(stream_replies(model, tokenizer, prompts, rules, rows=rows, **named))
    return [replies[place] for place in range(len(prompts))]

"""Greedy replies, all rows of a batch at once; a row that has ended costs no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch

from caft.errors import UserError
from caft.kernels.kv_cache import ReplyCache, SharedPrefix
from caft.kernels.packed_attention import Layout, packed_attention
from caft.kernels.packing import Pack, compute_prefix, pack_rows, packed_logits
from caft.kernels.shared_prefixes import common_prefix
from caft.models.estimates import entropy_of
from caft.protocols import CausalLM, Tokenizer
from caft.signals import end_if_asked
from caft.text.parsing import last_marker

# The marker may be spread over several tokens: only the last few can have closed it.
_MARKER_TOKENS = 16


class TokenSpread(NamedTuple):
    """A written token and its distribution: entropy in nats, top-1 probability, top-2 margin."""

    token: int
    entropy: float
    top1: float
    margin: float


class GeneratedReply(NamedTuple):
    """Text without special tokens, and the number of tokens written, end included.

    `spread` has an entry for each token if it was requested.
    """

    text: str
    tokens: int
    spread: tuple[TokenSpread, ...] = ()


def has_closed_marker(tail: str) -> bool:
    """Whether a reply's tail has a complete [[...]] by the parser's rules: no matrix, no quote."""
    return last_marker(tail) is not None


def generate_replies(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_ids: Sequence[int],
    stop_after_marker: bool = True,
    with_spread: bool = False,
    names: Sequence[str] = (),
) -> list[GeneratedReply]:
    """Greedy replies to token prompts, in order.

    A reply ends with one of `end_ids`, after its first closed marker, or at `max_new_tokens`.
    UserError, with the prompt's name from `names`, if logits are not finite. SystemExit between two
    tokens where a signal was noted.
    """
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    written: dict[int, list[int]] = {row: [] for row in order}
    spread: dict[int, list[TokenSpread]] = {row: [] for row in order}
    with torch.inference_mode(), packed_attention(model):
        cache, logits = _read_prompts(model, [prompts[row] for row in order], max_new_tokens)
        rows = order
        while True:
            end_if_asked()
            highest, likeliest = logits.max(dim=-1)
            if not torch.isfinite(highest).all():
                place = torch.isfinite(highest).tolist().index(False)
                raise logits_not_finite(names[rows[place]] if names else f"no. {rows[place]}")
            tokens = likeliest.tolist()
            if with_spread:
                for row, found in zip(rows, measure_spread(logits, tokens), strict=True):
                    spread[row].append(found)
            going = []
            for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
                written[row].append(token)
                closed = stop_after_marker and _closes_marker(tokenizer, written[row])
                if token not in end_ids and not closed:
                    going.append(place)
            if not going or cache.step == max_new_tokens - 1:
                break
            if len(going) < len(rows):
                cache.select(going)
                rows = [rows[place] for place in going]
            logits = _write_tokens(model, cache, [written[row][-1] for row in rows])
    return [
        GeneratedReply(
            tokenizer.decode(written[row], skip_special_tokens=True),
            len(written[row]),
            tuple(spread[row]),
        )
        for row in range(len(prompts))
    ]


def _closes_marker(tokenizer: Tokenizer, written: Sequence[int]) -> bool:
    # Most replies have no bracket yet, and to decode every tail takes longer than to look.
    tail = written[-_MARKER_TOKENS:]
    return any(_has_bracket(tokenizer, token) for token in tail) and has_closed_marker(
        tokenizer.decode(tail)
    )


@lru_cache(maxsize=2**16)
def _has_bracket(tokenizer: Tokenizer, token: int) -> bool:
    return "]" in tokenizer.decode([token])


def logits_not_finite(question: str) -> UserError:
    """The error if a model's logits for a question are not finite."""
    return UserError(
        f"question {question}: the model's logits are not finite; "
        "try model.dtype=float32, and check the weights"
    )


def measure_spread(logits: torch.Tensor, tokens: Sequence[int]) -> list[TokenSpread]:
    """Entropy, top-1 probability and top-2 margin of every row of logits [rows, vocabulary]."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    entropies = entropy_of(log_p).tolist()
    best = log_p.topk(2, dim=-1).values.exp().tolist()
    return [
        TokenSpread(token, entropy, first, first - second)
        for token, entropy, (first, second) in zip(tokens, entropies, best, strict=True)
    ]


def _read_prompts(
    model: CausalLM, prompts: Sequence[Sequence[int]], reply_tokens: int
) -> tuple[ReplyCache, torch.Tensor]:
    """The cache after prompts, sorted by length; and the logits of every first token."""
    shared = common_prefix(prompts)
    prefix = compute_prefix(model, prompts[0][:shared], model.device) if shared else SharedPrefix()
    pack = pack_rows([prompt[shared:] for prompt in prompts], shared).to(model.device)
    lengths = torch.tensor([len(prompt) - shared for prompt in prompts], device=model.device)
    cache = ReplyCache(prefix, lengths, width=int(lengths.max()), reply_tokens=reply_tokens)
    layout = replace(pack.layout, prefix=prefix, keep=cache)
    ends = torch.tensor(pack.starts, device=model.device) + lengths - 1
    return cache, packed_logits(model, replace(pack, layout=layout), ends)


def _write_tokens(model: CausalLM, cache: ReplyCache, newest: Sequence[int]) -> torch.Tensor:
    """One step: every row's newest token in, logits [rows, vocabulary] of its next one out."""
    pack = Pack(
        input_ids=torch.tensor([list(newest)], device=model.device),
        position_ids=cache.positions[None],
        layout=Layout((), replies=cache),
        starts=tuple(range(len(newest))),
    )
    logits = packed_logits(model, pack, torch.arange(len(newest)))
    cache.advance()
    return logits

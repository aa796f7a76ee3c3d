"""Causal attention of short rows, written out as matrix products.

On a CPU the fused kernel of `scaled_dot_product_attention` works on one head at a time, in tiles
too small for the matrix units: a third of the time of a pass over rows of some 200 tokens. Two
batched products and a softmax do the same in a third of that. `QUERY_BLOCK` queries of all rows
are computed at once, without the keys after them; shorter rows are padded to the longest, which
costs less than separate products. Memory grows with a row's length and not with its square.

A prefix that all rows read is copied before each row if it is short; if it is longer than the rows,
all of them read it in one product, without copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch.autograd.function import once_differentiable

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
# Queries [heads, tokens, size]; keys and values [kv_heads, tokens, size].
Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
QUERY_BLOCK = 64
# torch's bfloat16 softmax processes the rest beyond a multiple of these one number at a time.
_LANES = 32
# Weights of longer rows would be more than what layers keep anyway.
_LONGEST_KEPT = 512


@dataclass(frozen=True, slots=True)
class Extras:
    """What some models have beside queries, keys and values; fused kernels know none of it.

    A score s becomes c tanh(s / c) with the `softcap` c, before the mask (Gemma 2). `sinks` [heads]
    are scores of a token that is nobody's, which takes its share of the softmax (gpt-oss).
    """

    softcap: float | None
    sinks: torch.Tensor | None

    def cap(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores of any shape; those that are hidden are not among them yet."""
        return scores if self.softcap is None else self.softcap * (scores / self.softcap).tanh()

    def softmax(self, scores: torch.Tensor) -> torch.Tensor:
        """Over the keys, in float32. Scores are [rows, heads, ..., keys]."""
        exact = scores.float()
        if self.sinks is None:
            return exact.softmax(-1).to(scores.dtype)
        sinks = self.sinks.float().view(-1, *[1] * (exact.dim() - 2))
        exact = torch.cat([exact, sinks.expand(*exact.shape[:-1], 1)], dim=-1)
        return exact.softmax(-1)[..., :-1].to(scores.dtype)


def attend_plainly(
    extras: Extras,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None,
    is_causal: bool,
    dropout_p: float,
    scale: float,
    enable_gqa: bool,
) -> torch.Tensor:
    """`scaled_dot_product_attention` with extras; all weights of a run exist at once."""
    if enable_gqa:
        shared = query.shape[1] // keys.shape[1]
        keys, values = (part.repeat_interleave(shared, dim=1) for part in (keys, values))
    scores = extras.cap(query @ keys.mT * scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return torch.dropout(extras.softmax(scores), dropout_p, train=dropout_p > 0) @ values


def attend_short_rows(
    tokens: Heads,
    lengths: Sequence[int],
    before: KeysAndValues | None,
    scaling: float,
    kept: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Every token sees `before`, its own row up to itself, and nothing else.

    Rows are end to end, in order of length; `before` is [1, kv_heads, tokens, size]. Out: [tokens,
    heads, size]. There are no gradients: the scores are changed in place. Blocks append their
    weights to `kept`, if that is a list and `before` is empty.
    """
    query, keys, values = tokens
    shared = 0 if before is None else before[0].shape[2]
    rows = _fill_up(tuple(lengths), shared, query.device)
    heads, _, size = query.shape
    kv_heads = keys.shape[0]
    keys, values = rows.spread_heads(keys), rows.spread_heads(values)
    if before is not None and shared <= rows.length:
        keys, values = map(put_before, before, (keys, values))
        before = None
    first = keys.shape[2] - rows.length
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    # Heads that share a key are adjacent, so that keys are never repeated.
    grouped = (rows.count, rows.length, kv_heads, heads // kv_heads, size)
    queries = rows.spread(query.transpose(0, 1)).view(grouped)
    output = queries.new_empty(grouped)
    for shorter, start, end in rows.blocks():
        own = _attend_block(
            (
                queries[shorter:, start:end].permute(0, 2, 3, 1, 4),
                keys[shorter * kv_heads :, : first + end],
                values[shorter * kv_heads :, : first + end],
            ),
            before,
            scaling,
            kept,
        )
        output[shorter:, start:end] = own.permute(0, 3, 1, 2, 4)
    return rows.gather(output.view(rows.count, rows.length, heads, size))


def attend_trained_rows(tokens: Heads, lengths: Sequence[int], scaling: float) -> torch.Tensor:
    """The same within rows alone, and with gradients."""
    attend: Callable[..., torch.Tensor] = _TrainedRows.apply
    return attend(tuple(lengths), scaling, *tokens)


@dataclass(frozen=True)
class _Rows:
    """Rows of given lengths, end to end in order of length, and padded to `length`.

    With the tokens `before` them, that is the longest row rounded up to `_LANES`. `places` [tokens]
    are the positions of the tokens in the padded rows, and `sources` [rows * length] those of what
    stands there among the tokens: behind a row its last one again. None: no padding.
    """

    lengths: tuple[int, ...]
    before: int
    length: int
    places: torch.Tensor | None
    sources: torch.Tensor | None

    @property
    def count(self) -> int:
        return len(self.lengths)

    def spread(self, tokens: torch.Tensor) -> torch.Tensor:
        """[tokens, ...] -> [rows, length, ...]; nobody sees what is after shorter rows."""
        if self.sources is not None:
            # A seventh of the time of copying the tokens into zeros by their places.
            tokens = tokens.index_select(0, self.sources)
        return tokens.reshape(self.count, self.length, *tokens.shape[1:])

    def spread_gradient(self, tokens: torch.Tensor) -> torch.Tensor:
        """The same with zeros after shorter rows, which so add nothing to their keys' gradients."""
        spread = self.spread(tokens)
        if self.sources is not None:
            for row, length in enumerate(self.lengths):
                spread[row, length:] = 0
        return spread

    def spread_heads(self, part: torch.Tensor) -> torch.Tensor:
        """[heads, tokens, size] -> [rows, heads, length, size]."""
        return self.spread(part.transpose(0, 1)).transpose(1, 2)

    def gather(self, spread: torch.Tensor) -> torch.Tensor:
        """The inverse of `spread`."""
        tokens = spread.flatten(0, 1)
        return tokens if self.places is None else tokens.index_select(0, self.places)

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """How many rows end before the block's queries; the block's start and stop."""
        shorter, start = 0, 0
        while start < self.lengths[-1]:
            end = min(start + QUERY_BLOCK - (self.before + start) % _LANES, self.length)
            while self.lengths[shorter] <= start:
                shorter += 1
            yield shorter, start, end
            start = end


@lru_cache(maxsize=64)
def _fill_up(lengths: tuple[int, ...], before: int, device: torch.device) -> _Rows:
    """Made once for all layers of a pass."""
    filled = lengths[-1] + -(before + lengths[-1]) % _LANES
    if lengths[0] == filled:
        return _Rows(lengths, before, filled, None, None)
    # An ordinary tensor even where the first caller is in inference mode.
    with torch.inference_mode(False):
        places = [torch.arange(length) + row * filled for row, length in enumerate(lengths)]
        starts = accumulate(lengths, initial=0)
        sources = [
            start + torch.arange(filled).clamp_(max=length - 1)
            for start, length in zip(starts, lengths, strict=False)
        ]
        return _Rows(
            lengths, before, filled, *(torch.cat(each).to(device) for each in (places, sources))
        )


class _TrainedRows(torch.autograd.Function):
    """Weights of long rows are computed again in the backward pass, as the fused kernels do."""

    @staticmethod
    def forward(
        ctx: Any, lengths: tuple[int, ...], scaling: float, *tokens: torch.Tensor
    ) -> torch.Tensor:
        query, keys, values = tokens
        weights: list[torch.Tensor] | None = [] if lengths[-1] <= _LONGEST_KEPT else None
        output = attend_short_rows((query, keys, values), lengths, None, scaling, weights)
        ctx.save_for_backward(query, keys, values, output, *(weights or ()))
        ctx.lengths, ctx.scaling = lengths, scaling
        return output

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, keys, values, output, *kept = ctx.saved_tensors
        rows = _fill_up(ctx.lengths, 0, query.device)
        heads, _, size = query.shape
        kv_heads = keys.shape[0]
        grouped = (rows.count, rows.length, kv_heads, heads // kv_heads, -1)
        # The softmax's gradient: what a query's weights lose together is grad * output. It is
        # subtracted within the product of gradients and values, where sums are float32.
        lost = (grad.float() * output).sum(-1, keepdim=True).neg_()
        rounded = lost.to(grad.dtype)
        grad = torch.cat([grad, rounded, (lost - rounded).to(grad.dtype)], dim=-1)
        all_queries = rows.spread(query.transpose(0, 1)).view(grouped)
        grad = rows.spread_gradient(grad).view(grouped)
        keys, values = (rows.spread_heads(part).flatten(0, 1) for part in (keys, values))
        values = torch.nn.functional.pad(values, (0, 2), value=1)
        grad_query = torch.empty_like(all_queries)
        grad_keys = torch.zeros_like(keys, dtype=torch.float32)
        grad_values = torch.zeros_like(values, dtype=torch.float32)
        for block, (shorter, start, end) in enumerate(rows.blocks()):
            seen = slice(shorter * kv_heads, None), slice(end)
            queries, grads = (
                part[shorter:, start:end].permute(0, 2, 3, 1, 4).flatten(2, 3).flatten(0, 1)
                for part in (all_queries, grad)
            )
            if kept:
                weights = kept[block]
            else:
                weights = _masked_scores(queries, keys[seen], end - start, ctx.scaling).softmax(-1)
            grad_scores = _scaled_product(grads, values[seen], ctx.scaling).mul_(weights)
            shape = (rows.count - shorter, kv_heads, heads // kv_heads, end - start, size)
            grad_query[shorter:, start:end] = (
                torch.bmm(grad_scores, keys[seen]).view(shape).permute(0, 3, 1, 2, 4)
            )
            grad_keys[seen] += torch.bmm(grad_scores.mT, queries)
            grad_values[seen] += torch.bmm(weights.mT, grads)
        grad_values = grad_values[..., :size]
        grad_keys, grad_values = (
            part.view(rows.count, kv_heads, rows.length, size).transpose(1, 2)
            for part in (grad_keys, grad_values)
        )
        return (
            None,
            None,
            rows.gather(grad_query.flatten(2, 3)).transpose(0, 1),
            rows.gather(grad_keys).to(query.dtype).transpose(0, 1),
            rows.gather(grad_values).to(query.dtype).transpose(0, 1),
        )


def put_before(shared: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Keys or values of all rows [1, kv_heads, tokens, size], before each row's own."""
    return torch.cat([shared.expand(own.shape[0], -1, -1, -1), own], dim=2)


def _attend_block(
    heads: Heads, before: KeysAndValues | None, scaling: float, kept: list[torch.Tensor] | None
) -> torch.Tensor:
    """Queries are [rows, kv_heads, group, count, size], the last `count` of the row so far."""
    block, keys, values = heads
    rows, kv_heads, group, count, size = block.shape
    scores = _masked_scores(
        block.reshape(rows * kv_heads, group * count, size), keys, count, scaling
    )
    if before is None:
        weights = scores.softmax(-1)
        if kept is not None:
            kept.append(weights)
        return torch.bmm(weights, values).view(block.shape)
    its_keys, its_values = before
    # One product over all rows: [kv_heads, rows * group * count, size].
    across = block.transpose(0, 1).reshape(kv_heads, rows * group * count, size)
    shared = _scaled_product(across, its_keys[0], scaling)
    shared = shared.view(kv_heads, rows, group * count, -1).transpose(0, 1).flatten(0, 1)
    weights = torch.cat([shared, scores], dim=-1).softmax(-1)
    split = shared.shape[-1]
    own = torch.bmm(weights[..., split:], values).view(block.shape)
    share = weights[..., :split].view(rows, kv_heads, group * count, split).transpose(0, 1)
    read = torch.bmm(share.reshape(kv_heads, rows * group * count, split), its_values[0])
    return own + read.view(kv_heads, rows, group, count, size).transpose(0, 1)


def _masked_scores(
    queries: torch.Tensor, keys: torch.Tensor, count: int, scaling: float
) -> torch.Tensor:
    """[batch, group * count, keys]; queries [batch, group * count, size] of the last tokens."""
    scores = _scaled_product(queries, keys, scaling)
    diagonal = scores.view(len(keys), -1, count, keys.shape[1])[..., -count:]
    diagonal += _no_look_ahead(scores.dtype, scores.device)[:count, :count]
    return scores


def _scaled_product(queries: torch.Tensor, keys: torch.Tensor, scaling: float) -> torch.Tensor:
    # The product is scaled before it is rounded; scaling queries would round them once more.
    unused = queries.new_empty(())
    return torch.baddbmm(unused, queries, keys.mT, beta=0, alpha=scaling)


@lru_cache(maxsize=8)
def _no_look_ahead(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """0 on and below the diagonal and -inf above it, [QUERY_BLOCK, QUERY_BLOCK]."""
    # An ordinary tensor even where the first caller is in inference mode.
    with torch.inference_mode(False):
        square = (QUERY_BLOCK, QUERY_BLOCK)
        return torch.full(square, -torch.inf, dtype=dtype, device=device).triu(1)

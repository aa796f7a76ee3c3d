"""Causal attention of short rows, written out as matrix products.

On a CPU the fused kernel of `scaled_dot_product_attention` works on one head at a time, in tiles
too small for the matrix units: a fifth of the time of a pass over rows of some 200 tokens. Two
batched products and a softmax do the same in about half of that. They hold the weights of
`QUERY_BLOCK` queries at once, so memory grows with a row's length and not with its square, and
queries of a block are spared the keys behind it.

What all rows read before their own tokens is put before each where it is short; where it is longer
than the rows, all of them read it in one product, without copies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
QUERY_BLOCK = 128
LONGEST_TRAINED_ROW = 1024
"""Tokens; the way back holds the weights of whole rows, which grow with the square of it."""


def attend_short_rows(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    before: KeysAndValues | None,
    scaling: float,
) -> torch.Tensor:
    """Every token sees what stands before all rows, its own row up to itself, and nothing else.

    In: query [rows, heads, length, size], keys and values [rows, kv_heads, length, size]; keys
    and values `before` all rows [1, kv_heads, tokens, size]. Out: [rows, length, heads, size].
    Gives no gradients: the scores are changed in place.
    """
    rows, heads, length, size = query.shape
    kv_heads = keys.shape[1]
    if before is not None and before[0].shape[2] <= length:
        keys, values = put_before(before[0], keys), put_before(before[1], values)
        before = None
    first = keys.shape[2] - length
    # Heads that share a key stand side by side, so that keys are never repeated.
    asked = query.view(rows, kv_heads, heads // kv_heads, length, size)
    said = query.new_empty(rows, length, heads, size)
    for start in range(0, length, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, length)
        block = asked[:, :, :, start:end]
        own = _attend_block(
            block, keys[:, :, : first + end], values[:, :, : first + end], before, scaling
        )
        said[:, start:end] = own.flatten(1, 2).transpose(1, 2)
    return said


def attend_trained_rows(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
) -> torch.Tensor:
    """The same within rows alone, and with gradients; rows of at most LONGEST_TRAINED_ROW."""
    trained: Any = _TrainedRows
    said: torch.Tensor = trained.apply(query, keys, values, scaling)
    return said


class _TrainedRows(torch.autograd.Function):
    """Weights are not kept for the way back but made again, as the fused kernels do."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        said = attend_short_rows(query, keys, values, None, scaling)
        ctx.save_for_backward(query, keys, values, said)
        ctx.scaling = scaling
        return said

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, keys, values, said = ctx.saved_tensors
        rows, heads, length, size = query.shape
        # Queries whose heads share a key, one below the other: [rows * kv_heads, queries, size].
        flat = (rows * keys.shape[1], heads // keys.shape[1] * length, size)
        asked = query.reshape(flat)
        grad, said = (part.transpose(1, 2).reshape(flat) for part in (grad, said))
        keys, values = keys.flatten(0, 1), values.flatten(0, 1)
        weights = _causal_weights(asked, keys, ctx.scaling)
        # The softmax's own way back: what a query's weights lose together is what it said.
        lost = (grad.float() * said).sum(-1, keepdim=True)
        of_scores = (torch.bmm(grad, values.mT) - lost).mul_(weights).mul_(ctx.scaling)
        of_scores = of_scores.to(query.dtype)
        weights = weights.to(query.dtype)
        kv_shape = (rows, -1, length, size)
        return (
            torch.bmm(of_scores, keys).view(query.shape),
            torch.bmm(of_scores.mT, asked).view(kv_shape),
            torch.bmm(weights.mT, grad).view(kv_shape),
            None,
        )


def _causal_weights(queries: torch.Tensor, keys: torch.Tensor, scaling: float) -> torch.Tensor:
    """Float32 [batch, queries, keys]; queries are whole rows, one below the other."""
    length = keys.shape[1]
    scores = _scaled_product(queries, keys, scaling).float()
    ahead = torch.ones(length, length, dtype=torch.bool, device=keys.device).triu(1)
    scores.view(len(keys), -1, length, length).masked_fill_(ahead, -torch.inf)
    return torch.softmax(scores, dim=-1)


def put_before(shared: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Keys or values of all rows [1, kv_heads, tokens, size], before each row's own."""
    return torch.cat([shared.expand(own.shape[0], -1, -1, -1), own], dim=2)


def _attend_block(
    block: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    before: KeysAndValues | None,
    scaling: float,
) -> torch.Tensor:
    """Queries [rows, kv_heads, group, count, size], the last `count` of the row so far."""
    rows, kv_heads, group, count, size = block.shape
    flat = block.reshape(rows * kv_heads, group * count, size)
    scores = _scaled_product(flat, keys.flatten(0, 1), scaling)
    diagonal = scores.view(rows * kv_heads, group, count, -1)[..., -count:]
    diagonal += _no_look_ahead(scores.dtype, scores.device)[:count, :count]
    if before is None:
        return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(block.shape)
    its_keys, its_values = before
    # One product over all rows: [kv_heads, rows * group * count, size].
    across = block.transpose(0, 1).reshape(kv_heads, rows * group * count, size)
    shared = _scaled_product(across, its_keys[0], scaling)
    shared = shared.view(kv_heads, rows, group * count, -1).transpose(0, 1).flatten(0, 1)
    weights = torch.cat([shared, scores], dim=-1).softmax(-1)
    split = shared.shape[-1]
    said = torch.bmm(weights[..., split:], values.flatten(0, 1)).view(block.shape)
    share = weights[..., :split].view(rows, kv_heads, group * count, split).transpose(0, 1)
    read = torch.bmm(share.reshape(kv_heads, rows * group * count, split), its_values[0])
    return said + read.view(kv_heads, rows, group, count, size).transpose(0, 1)


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

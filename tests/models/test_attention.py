"""Attention written out, against torch's own under an explicit mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from caft.models.attention import QUERY_BLOCK, attend_short_rows, attend_trained_rows

SCALING = 0.3


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def reference(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, before: int
) -> torch.Tensor:
    length, reach = query.shape[2], keys.shape[2]
    seen = torch.ones(length, reach, dtype=torch.bool).tril(before)
    said = scaled_dot_product_attention(
        query, keys, values, attn_mask=seen, scale=SCALING, enable_gqa=True
    )
    return said.transpose(1, 2)


@pytest.mark.parametrize("length", [1, 7, QUERY_BLOCK, QUERY_BLOCK + 1, 2 * QUERY_BLOCK + 40])
@pytest.mark.parametrize(("rows", "before"), [(1, 0), (3, 0), (1, 5), (3, 200)])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_agrees_with_the_fused_kernel(rows: int, length: int, before: int, kv_heads: int) -> None:
    query = draw(rows, 6, length, 16)
    keys, values = draw(rows, kv_heads, length, 16), draw(rows, kv_heads, length, 16) + 1
    shared = (draw(1, kv_heads, before, 16), draw(1, kv_heads, before, 16) - 1)
    said = attend_short_rows(query, keys, values, shared if before else None, SCALING)
    expected = reference(
        query,
        torch.cat([shared[0].expand(rows, -1, -1, -1), keys], dim=2),
        torch.cat([shared[1].expand(rows, -1, -1, -1), values], dim=2),
        before,
    )
    torch.testing.assert_close(said, expected, atol=2e-6, rtol=1e-5)


def test_by_hand() -> None:
    # Equal keys: every token says the mean of what it sees, the shared 8 included.
    zeros = torch.zeros(1, 1, 2, 1)
    values = torch.tensor([2.0, 5.0]).view(1, 1, 2, 1)
    before = (torch.zeros(1, 1, 1, 1), torch.tensor(8.0).view(1, 1, 1, 1))
    assert attend_short_rows(zeros, zeros, values, None, 1.0).flatten().tolist() == [2.0, 3.5]
    assert attend_short_rows(zeros, zeros, values, before, 1.0).flatten().tolist() == [5.0, 5.0]


@pytest.mark.parametrize("length", [1, 7, QUERY_BLOCK + 1])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_gradients_are_those_of_the_fused_kernel(length: int, kv_heads: int) -> None:
    shapes = [(3, 6, length, 16), (3, kv_heads, length, 16), (3, kv_heads, length, 16)]
    ours, theirs = ([draw(*shape).requires_grad_() for shape in shapes] for _ in range(2))
    from_behind = draw(3, length, 6, 16)
    said, expected = attend_trained_rows(*ours, SCALING), reference(*theirs, 0)
    torch.testing.assert_close(said, expected, atol=2e-6, rtol=1e-5)
    said.backward(from_behind)
    expected.backward(from_behind)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=5e-6, rtol=1e-4)


def test_bfloat16_gradients_are_off_by_its_rounding_only() -> None:
    shapes = [(4, 6, 60, 64), (4, 2, 60, 64), (4, 2, 60, 64)]
    exact = [draw(*shape).bfloat16().float().requires_grad_() for shape in shapes]
    half = [t.detach().bfloat16().requires_grad_() for t in exact]
    from_behind = draw(4, 60, 6, 64)
    reference(*exact, 0).backward(from_behind)
    attend_trained_rows(*half, SCALING).backward(from_behind.bfloat16())
    for own, truth in zip(half, exact, strict=True):
        assert (own.grad - truth.grad).norm() < 2**-6 * truth.grad.norm()

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


LENGTHS = [
    (1,),
    (7, 7, 7),
    (2, 9, 9, 15),
    (QUERY_BLOCK, QUERY_BLOCK + 1),
    (QUERY_BLOCK - 1, 2 * QUERY_BLOCK, 3 * QUERY_BLOCK + 40),
]


def by_row(tokens: torch.Tensor, lengths: tuple[int, ...]) -> list[torch.Tensor]:
    """[heads, tokens, size] -> [1, heads, length, size] of every row."""
    return [part[None] for part in tokens.split(lengths, dim=1)]


def reference_of_rows(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: tuple[int, ...],
    shared: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    said = [
        reference(
            own,
            torch.cat([shared[0], its_keys], dim=2),
            torch.cat([shared[1], its_values], dim=2),
            shared[0].shape[2],
        )[0]
        for own, its_keys, its_values in zip(
            *(by_row(part, lengths) for part in (query, keys, values)), strict=True
        )
    ]
    return torch.cat(said)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("before", [0, 5, 250])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_agrees_with_the_fused_kernel(lengths: tuple[int, ...], before: int, kv_heads: int) -> None:
    tokens = sum(lengths)
    query = draw(6, tokens, 16)
    keys, values = draw(kv_heads, tokens, 16), draw(kv_heads, tokens, 16) + 1
    shared = (draw(1, kv_heads, before, 16), draw(1, kv_heads, before, 16) - 1)
    said = attend_short_rows(query, keys, values, lengths, shared if before else None, SCALING)
    expected = reference_of_rows(query, keys, values, lengths, shared)
    torch.testing.assert_close(said, expected, atol=2e-6, rtol=1e-5)


def test_by_hand() -> None:
    # Equal keys: every token says the mean of what it sees, the shared 8 included.
    zeros = torch.zeros(1, 3, 1)
    values = torch.tensor([7.0, 2.0, 5.0]).view(1, 3, 1)
    before = (torch.zeros(1, 1, 1, 1), torch.tensor(8.0).view(1, 1, 1, 1))
    alone, behind = (
        attend_short_rows(zeros, zeros, values, (1, 2), shared, 1.0).flatten().tolist()
        for shared in (None, before)
    )
    assert alone == [7.0, 2.0, 3.5]
    assert behind == [7.5, 5.0, 5.0]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_gradients_are_those_of_the_fused_kernel(lengths: tuple[int, ...], kv_heads: int) -> None:
    tokens = sum(lengths)
    shapes = [(6, tokens, 16), (kv_heads, tokens, 16), (kv_heads, tokens, 16)]
    ours, theirs = ([draw(*shape).requires_grad_() for shape in shapes] for _ in range(2))
    from_behind = draw(tokens, 6, 16)
    nothing = (torch.empty(1, kv_heads, 0, 16),) * 2
    said = attend_trained_rows(*ours, lengths, SCALING)
    expected = reference_of_rows(*theirs, lengths, nothing)
    torch.testing.assert_close(said, expected, atol=2e-6, rtol=1e-5)
    said.backward(from_behind)
    expected.backward(from_behind)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=5e-6, rtol=1e-4)


def test_bfloat16_gradients_are_off_by_its_rounding_only() -> None:
    lengths = (40, 60, 60, 150)
    shapes = [(6, 310, 64), (2, 310, 64), (2, 310, 64)]
    exact = [draw(*shape).bfloat16().float().requires_grad_() for shape in shapes]
    half = [t.detach().bfloat16().requires_grad_() for t in exact]
    from_behind = draw(310, 6, 64)
    reference_of_rows(*exact, lengths, (torch.empty(1, 2, 0, 64),) * 2).backward(from_behind)
    attend_trained_rows(*half, lengths, SCALING).backward(from_behind.bfloat16())
    for own, truth in zip(half, exact, strict=True):
        assert (own.grad - truth.grad).norm() < 2**-6 * truth.grad.norm()

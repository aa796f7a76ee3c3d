"""Attention written out, against torch's own under an explicit mask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from caft.kernels.attention import QUERY_BLOCK, attend_short_rows, attend_trained_rows
from numerics import DTYPES, Chain, assert_as_exact

pytestmark = pytest.mark.numerics

SCALING = 0.3


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


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


def chain_of_rows(reach: int) -> Chain:
    """Scores, of 16 terms, then values, of as many as the longest row sees."""
    return Chain(width=max(16, reach), depth=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("before", [0, 5, 250])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_agrees_with_the_fused_kernel(
    lengths: tuple[int, ...], before: int, kv_heads: int, dtype: torch.dtype
) -> None:
    tokens = sum(lengths)
    query = draw(6, tokens, 16, seed=1, dtype=dtype)
    keys, values = (draw(kv_heads, tokens, 16, seed=2 + n, dtype=dtype) + n for n in (0, 1))
    shared = tuple(draw(1, kv_heads, before, 16, seed=4 + n, dtype=dtype) - n for n in (0, 1))
    said = attend_short_rows((query, keys, values), lengths, shared if before else None, SCALING)
    usual = reference_of_rows(query, keys, values, lengths, shared)
    exact = reference_of_rows(
        *(part.double() for part in (query, keys, values)),
        lengths,
        tuple(part.double() for part in shared),
    )
    assert_as_exact(said, usual, exact, chain_of_rows(before + lengths[-1]))


def test_by_hand() -> None:
    # Equal keys: every token says the mean of what it sees, the shared 8 included.
    zeros = torch.zeros(1, 3, 1)
    values = torch.tensor([7.0, 2.0, 5.0]).view(1, 3, 1)
    before = (torch.zeros(1, 1, 1, 1), torch.tensor(8.0).view(1, 1, 1, 1))
    alone, behind = (
        attend_short_rows((zeros, zeros, values), (1, 2), shared, 1.0).flatten().tolist()
        for shared in (None, before)
    )
    assert alone == [7.0, 2.0, 3.5]
    assert behind == [7.5, 5.0, 5.0]


def test_what_is_no_number_stays_in_its_row() -> None:
    # Shorter rows are padded: not with tokens of another row, whose NaN times 0 would be NaN.
    lengths = (2, 3, 5)
    for broken in range(3):
        tokens = [draw(1, 10, 4, seed=seed) for seed in range(3)]
        tokens[2].split(lengths, dim=1)[broken].fill_(torch.nan)
        leaves = [part.requires_grad_() for part in tokens]
        said = attend_trained_rows((leaves[0], leaves[1], leaves[2]), lengths, SCALING)
        said.sum().backward()
        for results in (said[:, 0], *(leaf.grad[0] for leaf in leaves if leaf.grad is not None)):
            finite = [bool(row.isfinite().all()) for row in results.split(lengths)]
            assert [row for row in range(3) if row != broken if not finite[row]] == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
# A token that sees itself alone gives queries and keys no gradient: it is not alone here.
@pytest.mark.parametrize("lengths", [(1, 7, 7, 7), *LENGTHS[2:], (40, 60, 60, 150)], ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_gradients_are_those_of_the_fused_kernel(
    lengths: tuple[int, ...], kv_heads: int, dtype: torch.dtype
) -> None:
    tokens = sum(lengths)
    shapes = [(6, tokens, 16), (kv_heads, tokens, 16), (kv_heads, tokens, 16)]
    given = [draw(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes)]
    from_behind = draw(tokens, 6, 16, seed=3, dtype=dtype)

    def run(attend: Callable[..., torch.Tensor], wanted: torch.dtype) -> list[torch.Tensor]:
        """What is said, and the gradients of query, keys and values."""
        leaves = [part.clone().to(wanted).requires_grad_() for part in given]
        said = attend(*leaves)
        said.backward(from_behind.to(wanted))
        return [said.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    def fused(*leaves: torch.Tensor) -> torch.Tensor:
        nothing = (leaves[0].new_empty(1, kv_heads, 0, 16),) * 2
        return reference_of_rows(*leaves, lengths, nothing)

    said = run(lambda *leaves: attend_trained_rows(leaves, lengths, SCALING), dtype)
    assert_as_exact(
        said,
        run(fused, dtype),
        run(fused, torch.float64),
        chain_of_rows(lengths[-1]).there_and_back(),
    )

"""The loss against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from caft.kernels import chunked_loss
from caft.kernels.chunked_loss import summed_cross_entropy
from numerics import DTYPES, Chain, assert_as_exact


def test_sum_over_tokens_by_hand():
    # Probabilities 1/4 of four equal logits, and 3/4 of logits ln 3 and 0 (others impossible).
    impossible = -math.inf
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3), 0.0, impossible, impossible]])
    value = summed_cross_entropy(logits, torch.tensor([2, 0]))
    assert float(value) == pytest.approx(math.log(4) + math.log(4 / 3), rel=1e-6)


@pytest.mark.numerics
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chunks_change_neither_value_nor_gradient(monkeypatch, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(23, 11, generator=generator).to(dtype)
    labels = torch.randint(11, (23,), generator=generator)

    def run(wide, loss):
        leaf = logits.clone().to(wide).requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        return [value, leaf.grad]

    def plain(leaf, labels):
        # A sum in bfloat16 would stop growing.
        leaf = leaf if leaf.dtype is torch.float64 else leaf.float()
        return torch.nn.functional.cross_entropy(leaf, labels, reduction="sum")

    usual, exact = run(dtype, plain), run(torch.float64, plain)
    monkeypatch.setattr(chunked_loss, "_ROWS", 5)
    ours = run(dtype, summed_cross_entropy)
    assert_as_exact(ours, usual, exact, Chain(width=23, depth=2), dtype)


def test_bfloat16_logits_are_summed_in_float32():
    # 1000 tokens of ln 4: a bfloat16 sum stops growing long before.
    value = summed_cross_entropy(
        torch.zeros(1000, 4, dtype=torch.bfloat16), torch.zeros(1000, dtype=torch.long)
    )
    assert value.dtype is torch.float32
    assert float(value) == pytest.approx(1000 * math.log(4), rel=1e-5)

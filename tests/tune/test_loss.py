"""The loss against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from caft.tune import loss as loss_module
from caft.tune.loss import summed_cross_entropy


def test_sum_over_tokens_by_hand():
    # Probabilities 1/4 of four equal logits, and 3/4 of logits ln 3 and 0 (others impossible).
    impossible = -math.inf
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3), 0.0, impossible, impossible]])
    value = summed_cross_entropy(logits, torch.tensor([2, 0]))
    assert float(value) == pytest.approx(math.log(4) + math.log(4 / 3), rel=1e-6)


def test_chunks_change_neither_value_nor_gradient(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(23, 11, generator=generator)
    labels = torch.randint(11, (23,), generator=generator)
    whole, pieces = (logits.clone().requires_grad_() for _ in range(2))
    torch.nn.functional.cross_entropy(whole, labels, reduction="sum").backward()
    monkeypatch.setattr(loss_module, "_CHUNK", 5)
    value = summed_cross_entropy(pieces, labels)
    value.backward()
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    torch.testing.assert_close(value.detach(), expected)
    torch.testing.assert_close(pieces.grad, whole.grad)


def test_bfloat16_logits_are_summed_in_float32():
    # 1000 tokens of ln 4: a bfloat16 sum stops growing long before.
    value = summed_cross_entropy(
        torch.zeros(1000, 4, dtype=torch.bfloat16), torch.zeros(1000, dtype=torch.long)
    )
    assert value.dtype is torch.float32
    assert float(value) == pytest.approx(1000 * math.log(4), rel=1e-5)

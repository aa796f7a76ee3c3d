"""silu(gate) * up in one function: which MLPs have it, and that its gradients are theirs.

The kernels themselves run on CUDA only (test_cuda.py); here the formulas stand in torch.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import silu
from transformers import LlamaConfig, Phi3Config
from transformers.models.gemma.modeling_gemma import GemmaConfig, GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.phi3.modeling_phi3 import Phi3MLP

from caft.kernels import swiglu
from caft.kernels.swiglu import fuse_swiglu

SIZES = {"hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 4, "pad_token_id": 0}


class Limited(LlamaMLP):
    """DeepSeek 4's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x).clamp(max=10), self.up_proj(x).clamp(-10, 10)
        return self.down_proj(self.act_fn(gate) * up)


def silu_gradients(grad: Any, gate: Any, up: Any) -> tuple[torch.Tensor, torch.Tensor]:
    s = gate.sigmoid()
    return grad * up * s * (1 + gate * (1 - s)), grad * gate * s


def run(mlp: Any) -> list[torch.Tensor]:
    """The output and all gradients."""
    mlp.zero_grad()
    x = torch.linspace(-2, 3, 5 * 12).view(1, 5, 12).double().requires_grad_()
    said = mlp(x)
    said.backward(torch.linspace(1, 2, 5 * 12).view(1, 5, 12).double())
    return [said, x.grad, *(weight.grad for weight in mlp.parameters())]


def test_a_plain_mlp_computes_its_product_in_one_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    mlp = LlamaMLP(LlamaConfig(**SIZES)).double()
    expected = run(mlp)
    fuse_swiglu(mlp)
    assert all(map(torch.equal, run(mlp), expected))
    calls: list[int] = []

    def multiply(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return silu(gate) * up

    monkeypatch.setattr(swiglu, "kernels_for", lambda _x: (multiply, silu_gradients))
    for found, plain in zip(run(mlp), expected, strict=True):
        assert torch.allclose(found, plain, rtol=1e-12, atol=1e-12)
    # Scores and replies are computed as they were.
    with torch.no_grad():
        mlp(torch.zeros(1, 1, 12).double())
    assert calls == [1]


@pytest.mark.parametrize(
    "mlp",
    [GemmaMLP(GemmaConfig(**SIZES)), Phi3MLP(Phi3Config(**SIZES)), Limited(LlamaConfig(**SIZES))],
    ids=["another activation", "other parts", "a limit"],
)
def test_other_mlps_stay_as_they_are(mlp: Any) -> None:
    fuse_swiglu(mlp)
    assert "forward" not in vars(mlp)

"""RMSNorm in one function: the numbers of transformers' own, forward and backward."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNormGated

from caft.models.lean_norms import make_norms_lean

SIZE = 24


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def make_norm(kind: Any, dtype: torch.dtype = torch.float32) -> Any:
    norm = kind(SIZE, eps=1e-3)
    norm.weight.data = 1 + draw(SIZE) / 3
    return norm.to(dtype)


def is_lean(norm: Any) -> bool:
    return "forward" in vars(norm)


def run(norm: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What it says, and the gradients of x and of its weight."""
    norm.weight.grad = None
    x = x.clone().requires_grad_()
    said = norm(x)
    said.backward(draw(*x.shape, 1)[..., 0].to(x.dtype))
    assert x.grad is not None
    return said.detach(), x.grad, norm.weight.grad


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen2RMSNorm, Phi3RMSNorm])
def test_float64_agrees_on_numbers_and_gradients(kind: Any) -> None:
    # In float32 both are equally far from it.
    norm, x = make_norm(kind), 3 * draw(2, 7, SIZE)
    exact = make_norm(kind).double()
    w, wide = exact.weight, x.double().requires_grad_()
    said = w * wide * (wide.square().mean(-1, keepdim=True) + 1e-3).rsqrt()
    said.backward(draw(2, 7, SIZE, 1)[..., 0].double())
    make_norms_lean(norm)
    assert is_lean(norm)
    for found, expected in zip(run(norm, x), (said, wide.grad, w.grad), strict=True):
        torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=2e-6)


def test_bfloat16_is_no_further_from_float32_than_transformers() -> None:
    plain, x = make_norm(LlamaRMSNorm, torch.bfloat16), 3 * draw(512, SIZE).bfloat16()
    exact = run(make_norm(LlamaRMSNorm, torch.bfloat16).float(), x.float())
    usual = run(plain, x)
    make_norms_lean(plain)
    lean = run(plain, x)
    torch.testing.assert_close(lean[0], usual[0], atol=0, rtol=0)
    for found, other, truth in zip(lean, usual, exact, strict=True):
        distance, allowed = ((each.float() - truth).norm() for each in (found, other))
        assert float(distance) <= 1.05 * float(allowed)


def test_a_frozen_weight_gets_no_gradient() -> None:
    norm = make_norm(LlamaRMSNorm)
    norm.weight.requires_grad_(False)
    make_norms_lean(norm)
    x = draw(3, SIZE).requires_grad_()
    norm(x).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is None


@pytest.mark.parametrize("kind", [GemmaRMSNorm, Qwen3NextRMSNormGated])
def test_norms_that_do_something_else_stay(kind: Any) -> None:
    # Gemma scales by 1 + w; the gated one takes two inputs.
    norm = kind(SIZE, eps=1e-3)
    norm.weight.data.fill_(0.5)
    make_norms_lean(norm)
    assert not is_lean(norm)


def test_a_norm_without_a_weight_stays_beside_one_with() -> None:
    scaled = make_norm(LlamaRMSNorm)
    bare = LlamaRMSNorm(SIZE, eps=1e-3)
    del bare.weight
    make_norms_lean(torch.nn.ModuleList([scaled, bare]))
    assert (is_lean(scaled), is_lean(bare)) == (True, False)


def test_a_lean_norm_can_be_pickled() -> None:
    norm, x = make_norm(LlamaRMSNorm), draw(3, SIZE)
    make_norms_lean(norm)
    torch.testing.assert_close(pickle.loads(pickle.dumps(norm))(x), norm(x))


def test_a_norm_in_another_dtype_than_its_input_stays_transformers_own() -> None:
    norm, x = make_norm(LlamaRMSNorm), draw(3, SIZE).bfloat16()
    usual = norm(x)
    make_norms_lean(norm)
    torch.testing.assert_close(norm(x), usual, atol=0, rtol=0)
    assert norm(x).dtype == usual.dtype

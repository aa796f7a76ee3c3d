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

from caft.kernels.rms_norm import fuse_rms_norms
from numerics import DTYPES, Chain, assert_as_exact

pytestmark = pytest.mark.numerics

SIZE = 24


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def make_norm(kind: Any, dtype: torch.dtype = torch.float32) -> Any:
    norm = kind(SIZE, eps=1e-3)
    norm.weight.data = 1 + draw(SIZE) / 3
    return norm.to(dtype)


def is_fused(norm: Any) -> bool:
    return "forward" in vars(norm)


def run(norm: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What it says, and the gradients of x and of its weight."""
    norm.weight.grad = None
    x = x.clone().requires_grad_()
    said = norm(x)
    said.backward(draw(*x.shape, 1)[..., 0].to(x.dtype))
    assert x.grad is not None
    return said.detach(), x.grad, norm.weight.grad


def run_in_float64(norm: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same, by the formula: transformers' own goes through float32."""
    w, wide = norm.weight.detach().double().requires_grad_(), x.double().requires_grad_()
    said = w * wide * (wide.square().mean(-1, keepdim=True) + 1e-3).rsqrt()
    said.backward(draw(*x.shape, 1)[..., 0].to(x.dtype).double())
    assert wide.grad is not None
    assert w.grad is not None
    return said, wide.grad, w.grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen2RMSNorm, Phi3RMSNorm])
@pytest.mark.parametrize("tokens", [7, 512])
def test_numbers_and_gradients_are_as_exact_as_transformers(
    kind: Any, tokens: int, dtype: torch.dtype
) -> None:
    norm, x = make_norm(kind, dtype), 3 * draw(2, tokens, SIZE).to(dtype)
    usual, exact = run(norm, x), run_in_float64(norm, x)
    fuse_rms_norms(norm)
    assert is_fused(norm)
    # A weight's gradient is a sum over all tokens.
    assert_as_exact(run(norm, x), usual, exact, Chain(width=2 * tokens, depth=2))


def test_a_frozen_weight_gets_no_gradient() -> None:
    norm = make_norm(LlamaRMSNorm)
    norm.weight.requires_grad_(False)
    fuse_rms_norms(norm)
    x = draw(3, SIZE).requires_grad_()
    norm(x).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is None


@pytest.mark.parametrize("kind", [GemmaRMSNorm, Qwen3NextRMSNormGated])
def test_norms_that_do_something_else_stay(kind: Any) -> None:
    # Gemma scales by 1 + w; the gated one takes two inputs.
    norm = kind(SIZE, eps=1e-3)
    norm.weight.data.fill_(0.5)
    fuse_rms_norms(norm)
    assert not is_fused(norm)


def test_a_norm_without_a_weight_stays_beside_one_with() -> None:
    scaled = make_norm(LlamaRMSNorm)
    bare = LlamaRMSNorm(SIZE, eps=1e-3)
    del bare.weight
    fuse_rms_norms(torch.nn.ModuleList([scaled, bare]))
    assert (is_fused(scaled), is_fused(bare)) == (True, False)


def test_a_fused_norm_can_be_pickled() -> None:
    norm, x = make_norm(LlamaRMSNorm), draw(3, SIZE)
    fuse_rms_norms(norm)
    assert torch.equal(pickle.loads(pickle.dumps(norm))(x), norm(x))


def test_a_norm_in_another_dtype_than_its_input_stays_transformers_own() -> None:
    norm, x = make_norm(LlamaRMSNorm), draw(3, SIZE).bfloat16()
    usual = norm(x)
    fuse_rms_norms(norm)
    torch.testing.assert_close(norm(x), usual, atol=0, rtol=0)
    assert norm(x).dtype == usual.dtype

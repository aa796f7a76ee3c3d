"""Rotary embedding in one function: the numbers of transformers' own, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.glm import modeling_glm
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama import modeling_llama
from transformers.models.phi3 import modeling_phi3

from caft.kernels.rotary import fused_rotary
from numerics import DTYPES, Chain, assert_as_exact, chain_of, in_float64

pytestmark = pytest.mark.numerics

MODULES = {"llama": modeling_llama, "phi3": modeling_phi3}
TOKENS = torch.tensor([[1, 7, 5, 9, 3, 2, 8, 6]])


def make_model(architecture: str, **dials: Any) -> Any:
    config = AutoConfig.for_model(
        architecture,
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        **dials,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def rotate(module: Any, dtype: torch.dtype, wide: torch.dtype | None = None) -> list[torch.Tensor]:
    """Queries and keys as the module's layers turn them, then the gradients of both.

    Drawn in `dtype`, computed in `wide` where that is given.
    """
    draw = torch.Generator().manual_seed(3)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw).to(dtype).to(wide or dtype)

    query, key = (tensor(1, 5, heads, 8).transpose(1, 2).requires_grad_() for heads in (4, 2))
    angles = torch.randn(1, 5, 4, generator=draw).repeat(1, 1, 2)
    cosine, sine = (turned.to(dtype).to(wide or dtype) for turned in (angles.cos(), angles.sin()))
    said = module.apply_rotary_pos_emb(query, key, cosine, sine)
    torch.autograd.backward(said, [tensor(*each.shape) for each in said])
    assert query.grad is not None
    assert key.grad is not None
    return [*(each.detach() for each in said), query.grad, key.grad]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("architecture", MODULES)
def test_numbers_and_gradients_are_those_of_transformers(
    architecture: str, dtype: torch.dtype
) -> None:
    module = MODULES[architecture]
    usual, function = rotate(module, dtype), module.apply_rotary_pos_emb
    exact = rotate(module, dtype, torch.float64)
    with fused_rotary(make_model(architecture)):
        assert module.apply_rotary_pos_emb is not function
        fused = rotate(module, dtype)
    assert module.apply_rotary_pos_emb is function
    assert_as_exact(fused, usual, exact, Chain(width=2))


@torch.no_grad()
@pytest.mark.parametrize(
    ("architecture", "dials"),
    [
        ("llama", {}),
        ("phi3", {"partial_rotary_factor": 0.5}),  # a part of each head is not turned
        ("glm", {"head_dim": 8}),  # neighbours are turned, not halves
    ],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_models_say_what_they_say_otherwise(
    architecture: str, dials: dict[str, Any], dtype: torch.dtype
) -> None:
    model = make_model(architecture, **dials).to(dtype)
    usual, exact = (each(TOKENS).logits for each in (model, in_float64(model)))
    with fused_rotary(model):
        said = model(TOKENS).logits
    assert_as_exact(said, usual, exact, chain_of(model))


@pytest.mark.parametrize(
    ("architecture", "module"), [("glm", modeling_glm), ("gpt_oss", modeling_gpt_oss)]
)
def test_another_way_to_turn_stays(architecture: str, module: Any) -> None:
    function = module.apply_rotary_pos_emb
    with fused_rotary(make_model(architecture, head_dim=8)):
        assert module.apply_rotary_pos_emb is function

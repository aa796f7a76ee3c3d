"""The loss that never holds all logits, against torch's own cross-entropy over all of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from caft.kernels import chunked_loss as head_module
from caft.kernels.chunked_loss import has_plain_head, summed_head_loss, without_head
from numerics import DTYPES, Chain, Head, assert_as_exact, chain_of, in_float64

pytestmark = pytest.mark.numerics


def test_sum_over_tokens_by_hand() -> None:
    # With the identity as head, states are logits: 1/4 of four equal ones, 3/4 of ln 3, 0, 0, 0
    # pushed down by 50 (e to the minus 50 is nothing in float32).
    states = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3), 0.0, -50.0, -50.0]])
    value = summed_head_loss(Head(torch.eye(4)), states, torch.tensor([2, 0]))
    assert float(value.detach()) == pytest.approx(math.log(4) + math.log(4 / 3), rel=1e-6)


def run_plainly(
    states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
) -> list[torch.Tensor]:
    """The mean loss, and the gradients of states and weight, from all logits at once."""
    states, weight = (part.clone().requires_grad_() for part in (states, weight))
    logits = linear(states, weight)
    # A loss of bfloat16 logits is taken in float32 everywhere.
    logits = logits if logits.dtype is torch.float64 else logits.float()
    value = cross_entropy(logits, labels, reduction="sum") / len(labels)
    value.backward()
    assert states.grad is not None
    assert weight.grad is not None
    return [value, states.grad, weight.grad]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows_a_chunk", [1, 5, 100])
def test_value_and_gradients_are_those_of_all_logits_at_once(
    monkeypatch: pytest.MonkeyPatch, rows_a_chunk: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(head_module, "_CHUNK", 11 * rows_a_chunk)
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, 7, generator=generator).to(dtype) for n in (23, 11))
    labels = torch.randint(11, (23,), generator=generator)
    usual = run_plainly(states, weight, labels)
    exact = run_plainly(states.double(), weight.double(), labels)
    states.requires_grad_()
    head = Head(weight)
    value = summed_head_loss(head, states, labels) / 23
    value.backward()
    said = [value, states.grad, head.layer.weight.grad]
    assert_as_exact(said, usual, exact, Chain(width=23, depth=2), dtype)


def test_bfloat16_is_summed_in_float32() -> None:
    # 1000 tokens of ln 4: a bfloat16 sum stops growing long before.
    states = torch.zeros(1000, 3, dtype=torch.bfloat16)
    head = Head(torch.ones(4, 3, dtype=torch.bfloat16))
    value = summed_head_loss(head, states, torch.zeros(1000, dtype=torch.long))
    assert value.dtype is torch.float32
    assert float(value.detach()) == pytest.approx(1000 * math.log(4), rel=1e-5)


def tiny(architecture: str, **dials: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        architecture, vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0,
        **dials,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3"])
def test_states_without_the_head_are_what_the_head_reads(architecture: str) -> None:
    model, rows = tiny(architecture), torch.arange(12)[None]
    with without_head(model):
        states = model(input_ids=rows).logits
    assert has_plain_head(model)
    assert states.shape == (1, 12, 32)
    usual, exact = (each(input_ids=rows).logits for each in (model, in_float64(model)))
    assert_as_exact(model.lm_head(states), usual, exact, chain_of(model))
    # The head is back, and only the head was away.
    assert usual.shape == (1, 12, 61)


HEAD = {"head_dim": 8}
WINDOWS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16, **HEAD}
CAPPED = [
    ("gemma2", {**HEAD, "final_logit_softcapping": 30.0}),
    ("recurrent_gemma", {"block_types": ["recurrent", "attention"], "lru_width": 32,
                         "logits_soft_cap": 30.0}),
    ("xlstm", {"num_heads": 4, "output_logit_soft_cap": 30.0}),
    ("gemma4_text", {**WINDOWS, "global_head_dim": 8, "hidden_size_per_layer_input": 0,
                     "num_kv_shared_layers": 0, "final_logit_softcapping": 30.0}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("architecture", "dials"), CAPPED)
def test_a_model_that_caps_its_logits_has_no_plain_head(
    architecture: str, dials: dict[str, Any], dtype: torch.dtype
) -> None:
    """However small they are with random weights, and whatever its config calls the cap."""
    model = tiny(architecture, **dials).to(dtype)
    assert not has_plain_head(model)


def test_a_cap_that_the_texts_own_config_has_is_seen() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}  # fmt: skip
    text = {**shape, **CAPPED[-1][1], "num_hidden_layers": 2, "vocab_size": 61, "pad_token_id": 0}
    config = AutoConfig.for_model(
        "gemma4", text_config=text, vision_config={**shape, "patch_size": 4}, audio_config=None
    )
    assert not has_plain_head(AutoModelForCausalLM.from_config(config).eval())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("architecture", "dials"),
    [("cohere", {"logit_scale": 0.3}), ("granite", {"logits_scaling": 7.0})],
)
def test_scaled_logits_are_made_of_scaled_states(
    architecture: str, dials: dict[str, float], dtype: torch.dtype
) -> None:
    model, rows = tiny(architecture, **dials).to(dtype).train(), torch.arange(12)[None]
    assert has_plain_head(model)
    assert model.training
    with without_head(model.eval()):
        states = model(input_ids=rows).logits
    usual, exact = (each(input_ids=rows).logits for each in (model, in_float64(model)))
    assert_as_exact(model.lm_head(states), usual, exact, chain_of(model))


def test_a_head_with_a_bias_is_not_plain() -> None:
    assert not has_plain_head(tiny("phi"))


def test_a_head_with_an_adapter_is_not_plain() -> None:
    """Also where the model was tried before: the adapter would get no gradient."""
    from peft import LoraConfig, get_peft_model

    model = tiny("llama")
    assert has_plain_head(model)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"]))
    assert not has_plain_head(tuned)

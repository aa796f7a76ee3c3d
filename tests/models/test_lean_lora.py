"""Adapters computed in one function against peft's own way: the same loss and gradients."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from caft.models.adapters import add_lora, compute_in_weights_dtype, load_adapter
from caft.models.lean_lora import is_lean

ROWS = torch.tensor([[1, 7, 5, 9, 3, 2, 8, 6], [4, 4, 11, 30, 17, 2, 25, 19]])


def make_model(architecture: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        architecture,
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def adapt(model: Any, **dials: Any) -> Any:
    settings = {"dropout": 0.0, "modules": (), "use_dora": False, "use_rslora": False, **dials}
    adapted = add_lora(model, r=4, alpha=8, **settings)
    # Fresh adapters add nothing and get half of their gradients as zeros.
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted.train()


def the_way_of_peft(model: Any) -> Any:
    for layer in model.modules():
        vars(layer).pop("forward", None)
    assert not is_lean(model)
    return model


def gradients(model: Any, rows: torch.Tensor = ROWS) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with compute_in_weights_dtype(model):
        loss = model(input_ids=rows, labels=rows).loss
    loss.backward()
    trained = {name: w.grad for name, w in model.named_parameters() if w.requires_grad}
    return {"loss": loss.detach(), **trained}


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3"])
def test_loss_and_gradients_are_those_of_peft(architecture: str, use_rslora: bool) -> None:
    lean = adapt(make_model(architecture), use_rslora=use_rslora)
    plain = the_way_of_peft(deepcopy(lean))
    assert is_lean(lean)
    expected = gradients(plain)
    found = gradients(lean)
    assert len(expected) > 8
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_bfloat16_gradients_are_no_further_from_float32_than_those_of_peft() -> None:
    lean = adapt(make_model("llama").to(torch.bfloat16))
    assert {w.dtype for w in lean.parameters() if w.requires_grad} == {torch.float32}
    plain = the_way_of_peft(deepcopy(lean))
    exact = the_way_of_peft(deepcopy(lean)).float()

    def distance(model: Any, rows: torch.Tensor) -> float:
        truth, found = gradients(exact, rows), gradients(model, rows)
        return sum(float((found[name].float() - truth[name]).norm()) for name in truth)

    # One batch may round either way by chance.
    batches = torch.randint(1, 61, (20, 4, 16), generator=torch.Generator().manual_seed(1))
    of_lean, of_plain = (sum(distance(m, rows) for rows in batches) for m in (lean, plain))
    assert of_lean <= 1.02 * of_plain


@pytest.mark.parametrize("dials", [{"use_dora": True}, {"dropout": 0.1}])
def test_what_only_peft_can_do_stays_with_peft(dials: dict[str, Any]) -> None:
    assert not is_lean(adapt(make_model("llama"), **dials))


def test_adapters_that_are_switched_off_add_nothing() -> None:
    base = make_model("qwen2")
    alone = base(input_ids=ROWS).logits.detach()
    adapted = adapt(base)
    with torch.no_grad(), adapted.disable_adapter():
        torch.testing.assert_close(adapted(input_ids=ROWS).logits, alone)
    assert not torch.allclose(adapted(input_ids=ROWS).logits, alone)


def test_a_saved_adapter_says_the_same_through_peft_alone(tmp_path: Any) -> None:
    from peft import PeftModel

    adapted = adapt(make_model("phi3")).eval()
    adapted.save_pretrained(tmp_path)
    said = adapted(input_ids=ROWS).logits
    for loaded in (
        PeftModel.from_pretrained(make_model("phi3"), tmp_path),
        load_adapter(make_model("phi3"), tmp_path),
    ):
        torch.testing.assert_close(loaded.eval()(input_ids=ROWS).logits, said)


def test_an_adapter_that_has_changed_is_read_anew() -> None:
    # Casts are kept between passes: of one without gradients, for one with them, until a step.
    lean = adapt(make_model("llama").to(torch.bfloat16))
    with torch.inference_mode():
        before = lean(input_ids=ROWS).logits
    first = gradients(lean)
    optimizer = torch.optim.AdamW([w for w in lean.parameters() if w.requires_grad], lr=0.1)
    optimizer.step()
    after = lean(input_ids=ROWS).logits
    fresh = the_way_of_peft(deepcopy(lean))
    assert not torch.allclose(after, before, atol=0.1)
    with compute_in_weights_dtype(fresh):
        torch.testing.assert_close(after, fresh(input_ids=ROWS).logits, rtol=0.1, atol=0.1)
    assert not torch.equal(gradients(lean)["loss"], first["loss"])


def test_layers_that_are_run_together_also_run_alone() -> None:
    lean = adapt(make_model("llama"))
    attention = lean.get_decoder().layers[0].self_attn
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    one, other = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(4))
    expected = {
        (layer, number): type(layer).forward(layer, x)
        for layer in layers
        for number, x in enumerate((one, other))
    }
    query, key, value = layers
    # The key of `one` is asked for before its query, and the values of another than the query's.
    for layer, number in ((key, 0), (query, 0), (value, 1), (query, 1), (key, 1), (value, 1)):
        said = layer((one, other)[number])
        torch.testing.assert_close(said, expected[layer, number])

"""Adapters computed in one function against peft's own way: the same loss and gradients."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from caft.kernels.lora import fuse_lora, has_fused_lora
from caft.models.adapters import add_lora, compute_in_weights_dtype, load_adapter
from numerics import DTYPES, Chain, assert_as_exact, chain_of, in_float64

pytestmark = pytest.mark.numerics

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


def as_peft_computes(model: Any) -> Any:
    for layer in model.modules():
        vars(layer).pop("forward", None)
    assert not has_fused_lora(model)
    return model


def gradients(model: Any, rows: torch.Tensor = ROWS) -> dict[str, torch.Tensor]:
    """Of the adapters; the mean loss of next tokens with them."""
    model.zero_grad()
    with compute_in_weights_dtype(model):
        logits = model(input_ids=rows).logits[:, :-1].flatten(0, 1)
    # As transformers takes it, but that float64 is left as it is.
    logits = logits if logits.dtype is torch.float64 else logits.float()
    loss = torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten())
    loss.backward()
    trained = {name: w.grad for name, w in model.named_parameters() if w.requires_grad}
    return {"loss": loss.detach(), **trained}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("names", [("q_proj", "k_proj", "v_proj"), ("o_proj",)])
@torch.no_grad()
def test_what_a_fresh_adapter_says_survives_bfloat16(names: tuple[str, ...], bias: bool) -> None:
    class Layers(torch.nn.Module):
        """Its outputs are about 1, whose last digit in bfloat16 is 1/128; adapters add 1/4000."""

        def __init__(self) -> None:
            super().__init__()
            for name in names:
                self.add_module(name, torch.nn.Linear(64, 64, bias=bias))

    torch.manual_seed(0)
    model = get_peft_model(Layers().bfloat16(), LoraConfig(r=4, target_modules=list(names)))
    x = torch.randn(512, 64).bfloat16()
    for name in names:
        layer = getattr(model.base_model.model, name)
        layer.base_layer.weight.normal_(std=1 / 8)
        layer.lora_B["default"].weight.normal_(std=1e-4)
    exact = deepcopy(model).double()
    fuse_lora(model)
    for name in names:
        fused, plain = (getattr(each.base_model.model, name) for each in (model, exact))
        wanted = plain(x.double()) - plain.base_layer(x.double())
        wrong = fused(x).double() - plain(x.double())
        # How much of it is missing: rounding has no direction, losing it has.
        assert abs(float((wrong * wanted).sum() / wanted.square().sum())) < 0.15


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3"])
def test_loss_and_gradients_are_those_of_peft(
    architecture: str, use_rslora: bool, dtype: torch.dtype
) -> None:
    fused = adapt(make_model(architecture).to(dtype), use_rslora=use_rslora)
    assert {w.dtype for w in fused.parameters() if w.requires_grad} == {torch.float32}
    plain = as_peft_computes(deepcopy(fused))
    assert has_fused_lora(fused)
    expected = gradients(plain)
    assert len(expected) > 8
    # One batch may round either way by chance: 80 rows as well.
    many = torch.randint(1, 61, (80, 16), generator=torch.Generator().manual_seed(1))
    for rows in (ROWS, many):
        found, usual, exact = (gradients(each, rows) for each in (fused, plain, in_float64(plain)))
        assert_as_exact(found, usual, exact, chain_of(plain).there_and_back(), dtype)


@pytest.mark.parametrize("dials", [{"use_dora": True}, {"dropout": 0.1}])
def test_what_only_peft_can_do_stays_with_peft(dials: dict[str, Any]) -> None:
    assert not has_fused_lora(adapt(make_model("llama"), **dials))


def test_adapters_that_are_switched_off_add_nothing() -> None:
    base = make_model("qwen2")
    alone = base(input_ids=ROWS).logits.detach()
    exact = in_float64(base)(input_ids=ROWS).logits.detach()
    adapted = adapt(base)
    with torch.no_grad(), adapted.disable_adapter():
        assert_as_exact(adapted(input_ids=ROWS).logits, alone, exact, chain_of(base))
    assert float((adapted(input_ids=ROWS).logits - alone).detach().abs().max()) > 0.1


def test_a_saved_adapter_says_the_same_through_peft_alone(tmp_path: Any) -> None:
    from peft import PeftModel

    adapted = adapt(make_model("phi3")).eval()
    adapted.save_pretrained(tmp_path)
    said = adapted(input_ids=ROWS).logits
    by_peft = PeftModel.from_pretrained(make_model("phi3"), tmp_path).eval()
    usual, exact = (each(input_ids=ROWS).logits for each in (by_peft, in_float64(by_peft)))
    loaded = load_adapter(make_model("phi3"), tmp_path).eval()(input_ids=ROWS).logits
    for ours in (said, loaded):
        assert_as_exact(ours, usual, exact, chain_of(by_peft))


def test_an_adapter_that_has_changed_is_read_again() -> None:
    # Casts are kept between passes: of one without gradients, for one with them, until a step.
    fused = adapt(make_model("llama").to(torch.bfloat16))
    with torch.inference_mode():
        before = fused(input_ids=ROWS).logits
    first = gradients(fused)
    optimizer = torch.optim.AdamW([w for w in fused.parameters() if w.requires_grad], lr=0.1)
    optimizer.step()
    after = fused(input_ids=ROWS).logits
    fresh = as_peft_computes(deepcopy(fused))
    assert float((after - before).abs().max()) > 0.5
    with compute_in_weights_dtype(fresh):
        usual = fresh(input_ids=ROWS).logits
    exact = in_float64(fresh)(input_ids=ROWS).logits
    assert_as_exact(after, usual, exact, chain_of(fused), torch.bfloat16)
    assert not torch.equal(gradients(fused)["loss"], first["loss"])


def test_layers_that_are_run_together_also_run_alone() -> None:
    fused = adapt(make_model("llama"))
    attention = fused.get_decoder().layers[0].self_attn
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    one, other = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(4))
    exact_layers = [deepcopy(layer).double() for layer in layers]
    expected = {
        (layer, number): (
            type(layer).forward(layer, x),
            type(layer).forward(of_exact, x.double()),
        )
        for layer, of_exact in zip(layers, exact_layers, strict=True)
        for number, x in enumerate((one, other))
    }
    query, key, value = layers
    # The key of `one` is asked for before its query, and the values of another than the query's.
    for layer, number in ((key, 0), (query, 0), (value, 1), (query, 1), (key, 1), (value, 1)):
        said = layer((one, other)[number])
        # Its own product, then down to the rank and up again.
        assert_as_exact(said, *expected[layer, number], Chain(width=32, depth=3))

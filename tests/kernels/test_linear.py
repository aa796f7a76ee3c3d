"""Weights in the order of the kernels: the same numbers, in the memory of the ordinary ones."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.kernels import linear
from caft.kernels.linear import reorder_weights
from caft.kernels.memory import multiplies_bfloat16
from caft.kernels.packed_attention import packed_attention
from caft.kernels.packing import pack_rows, packed_logits
from caft.models.adapters import add_lora, compute_in_weights_dtype
from caft.models.config import Architecture, Dtype
from caft.models.student import Student
from numerics import DTYPES, Chain, assert_as_exact, chain_of, in_float64

pytestmark = pytest.mark.numerics


def has_products(dtype: torch.dtype) -> bool:
    """Whether oneDNN has them on this processor, and with what it was told to use of it."""
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(8, 8, dtype=dtype))
    except RuntimeError:
        return False
    return dtype is torch.float32 or multiplies_bfloat16("cpu")


class Layers(torch.nn.Module):
    """What `reorder_weights` reads of a model, and nothing else."""

    def __init__(self, *layers: torch.nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.device = torch.device("cpu")
        self.to(dtype)

    def forward(self, input_ids: torch.Tensor, *, use_cache: bool) -> None:
        """Where nothing is read."""


def is_reordered(layer: Any) -> bool:
    return bool(layer.weight.layout == torch._mkldnn)


def linears(model: Any) -> list[Any]:
    return [each for each in model.modules() if isinstance(each, torch.nn.Linear)]


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def student(tiny_student: Callable[..., Student], request: pytest.FixtureRequest) -> Student:
    dtype = Dtype(str(request.param).removeprefix("torch."))
    return tiny_student(architecture=Architecture.llama, dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 7, 200, 513])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 192), (100, 37), (4096, 64)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_says_what_it_said(
    dtype: torch.dtype, tokens: int, inputs: int, outputs: int, bias: bool
) -> None:
    torch.manual_seed(0)
    model = Layers(torch.nn.Linear(inputs, outputs, bias=bias), dtype=dtype)
    x = torch.randn(1, tokens, inputs).to(dtype)
    usual, exact = deepcopy(model).layers[0](x), deepcopy(model).double().layers[0](x.double())
    reorder_weights(model)
    assert is_reordered(model.layers[0]) is has_products(dtype)
    assert_as_exact(model.layers[0](x), usual, exact, Chain(width=inputs))
    if not has_products(dtype):
        return
    # As autocast would have it.
    said = model.layers[0](x.float())
    assert said.dtype == dtype
    assert_as_exact(said, usual, exact, Chain(width=inputs))


def test_ordinary_weights_are_given_up_and_counted_as_before() -> None:
    model = Layers(torch.nn.Linear(64, 32), torch.nn.Linear(32, 64))
    ordinary = [weakref.ref(layer.weight) for layer in model.layers]
    numbers = sum(weight.numel() for weight in model.parameters())
    reorder_weights(model)
    gc.collect()
    assert [reference() for reference in ordinary] == [None, None]
    assert sum(weight.numel() for weight in model.parameters()) == numbers
    assert model.layers[0].weight.shape == (32, 64)


def test_weights_that_others_read_stay() -> None:
    embedding, head = torch.nn.Embedding(50, 16), torch.nn.Linear(16, 50, bias=False)
    model = Layers(embedding, head, torch.nn.Linear(16, 16))
    head.weight = embedding.weight
    reorder_weights(model)
    assert [is_reordered(layer) for layer in model.layers] == [False, False, True]
    assert head.weight is embedding.weight


class Reading(Layers):
    """It multiplies by the first layer's weight itself, and looks at the second one's dtype."""

    def forward(self, input_ids: torch.Tensor, *, use_cache: bool) -> None:
        states = torch.ones(1, 16, dtype=self.layers[1].weight.dtype)
        for layer in self.layers[1:]:
            states = layer(states)
        self.layers[0].weight @ states.T


def test_weights_that_the_model_multiplies_by_itself_stay() -> None:
    model = Reading(*(torch.nn.Linear(16, 16) for _ in range(3)))
    reorder_weights(model)
    assert [is_reordered(layer) for layer in model.layers] == [False, True, True]


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["jamba", "mamba"])
def test_a_model_with_states_says_what_it_said(architecture: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "pad_token_id": 0}  # fmt: skip
    if architecture == "jamba":
        shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_layer_offset": 1,
                  "attn_layer_period": 2, "num_experts": 2, "mamba_d_state": 4,
                  "mamba_dt_rank": 4}  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape)).eval()
    row = {"input_ids": torch.arange(3, 20)[None], "use_cache": False}
    usual = model(**row).logits
    reorder_weights(model)
    torch.testing.assert_close(model(**row).logits, usual)
    if has_products(torch.float32):
        assert 0 < sum(map(is_reordered, linears(model))) < len(linears(model))


def test_other_dtypes_and_classes_stay() -> None:
    class Own(torch.nn.Linear):
        pass

    wide, own = Layers(torch.nn.Linear(8, 8), dtype=torch.float64), Layers(Own(8, 8))
    for model in (wide, own):
        reorder_weights(model)
        assert not is_reordered(model.layers[0])


@pytest.mark.parametrize("error", [AttributeError, RuntimeError])
def test_a_torch_without_these_functions_keeps_its_own_way(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error("no such operator")

    monkeypatch.setattr(linear, "_multiply", refuse)
    model = Layers(torch.nn.Linear(8, 8))
    reorder_weights(model)
    assert not is_reordered(model.layers[0])
    assert "forward" not in vars(model.layers[0])


@torch.no_grad()
def test_a_model_for_inference_says_what_the_loaded_one_does(student: Student) -> None:
    pack = pack_rows([[5, 6, 7], [8, 9, 10, 11, 12], [8, 9, 3, 11, 14, 2, 40]])
    ends = torch.tensor([2, 7, 14])
    loaded, reordered = student.load(), student.load_for_inference()
    said = []
    for model in (reordered, loaded, in_float64(loaded)):
        with packed_attention(model):
            said.append(packed_logits(model, pack, ends))
    assert_as_exact(*said, chain_of(loaded))
    assert is_reordered(reordered.model.layers[0].mlp.gate_proj) is has_products(loaded.dtype)


class Gated(torch.nn.Module):
    """An MLP as most models write it, whatever its activation."""

    def __init__(self, activation: torch.nn.Module, *, bias: bool) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (torch.nn.Linear(48, 80, bias=bias) for _ in range(2))
        self.down_proj = torch.nn.Linear(80, 48, bias=bias)
        self.act_fn = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return said


class Turned(Gated):
    """Of other form, with the same names."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.down_proj(self.act_fn(self.up_proj(x)) * self.gate_proj(x))
        return said


class Limited(Gated):
    """DeepSeek 4's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x).clamp(max=10), self.up_proj(x).clamp(-10, 10)
        said: torch.Tensor = self.down_proj(self.act_fn(gate) * up)
        return said


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 7, 200])
@pytest.mark.parametrize("bias", [False, True])
def test_a_gate_is_computed_within_its_products(
    dtype: torch.dtype, tokens: int, bias: bool
) -> None:
    torch.manual_seed(0)
    model = Layers(Gated(torch.nn.SiLU(), bias=bias), dtype=dtype)
    x = 4 * torch.randn(1, tokens, 48).to(dtype)
    usual, exact = deepcopy(model).layers[0](x), deepcopy(model).double().layers[0](x.double())
    reorder_weights(model)
    assert ("forward" in vars(model.layers[0])) is has_products(dtype)
    seen: list[tuple[int, ...]] = []
    for layer in linears(model):
        layer.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    assert_as_exact(model.layers[0](x), usual, exact, Chain(width=80, depth=3))
    # What counts operations or watches layers still sees all of them.
    assert sorted(seen) == [(1, tokens, 48), (1, tokens, 48), (1, tokens, 80)]


@torch.no_grad()
@pytest.mark.parametrize(
    "mlp",
    [
        Gated(torch.nn.GELU(), bias=False),
        Gated(torch.nn.GELU("tanh"), bias=False),
        Gated(torch.nn.ReLU(), bias=False),
        Turned(torch.nn.SiLU(), bias=False),
        Limited(torch.nn.SiLU(), bias=False),
    ],
    ids=["gelu", "tanh", "relu", "turned", "limited"],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [0.02, 1.0])
def test_other_gates_stay(mlp: Gated, dtype: torch.dtype, size: float) -> None:
    model = Layers(deepcopy(mlp), dtype=dtype)
    draw = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.normal_(std=size, generator=draw)
    reorder_weights(model)
    assert "forward" not in vars(model.layers[0])


ADAPTERS = {
    "lora": ({}, 15),
    "lora with dropout": ({"dropout": 0.1}, 15),
    "lora on the head": ({"modules": ("q_proj", "lm_head")}, 15),
    # It reads the weights themselves.
    "dora": ({"use_dora": True}, 1),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_sit_on_it(student: Student, kind: str, tmp_path: Path) -> None:
    dials, reordered = ADAPTERS[kind]
    settings = {"dropout": 0.0, "modules": (), "use_dora": False, "use_rslora": False, **dials}
    adapted = add_lora(student.load(), r=4, alpha=8, **settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(tmp_path)
    tuned = student.after_tuning(tmp_path, "known")
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    plain, model = tuned.load(), tuned.load_for_inference()
    said = []
    for each in (model, plain, in_float64(plain)):
        with compute_in_weights_dtype(each):
            said.append(each(ids).logits)
    assert_as_exact(*said, chain_of(plain), plain.dtype)
    untuned = in_float64(student.load())(ids).logits
    assert float((said[2] - untuned).abs().max()) > 5e-2
    assert sum(map(is_reordered, linears(model))) == (reordered if has_products(plain.dtype) else 0)

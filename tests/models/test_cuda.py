"""On a CUDA device: packs, norms, replies and training say what the CPU says in float32.

bfloat16 may be as far from float32 as the model's ordinary way is, row by row.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from caft.models.adapters import add_lora
from caft.models.generation import generate_replies
from caft.models.head import summed_head_loss, without_head
from caft.models.lean_norms import make_norms_lean
from caft.models.packing import (
    Pack,
    compute_prefix,
    pack_behind_stems,
    pack_rows,
    packed_attention,
    packed_logits,
)
from caft.models.varlen import can_attend_at_once

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

VOCABULARY = 97
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_key_value_heads": 1},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2},
    "phi3": {"model_type": "phi3", "sliding_window": None},
    "phi3_window": {"model_type": "phi3", "sliding_window": 5},
}
LENGTHS = [1, 3, 3, 7, 12, 12, 40, 70]


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest) -> Any:
    """On the CPU, in float32, with weights that bfloat16 holds exactly."""
    settings = {"num_key_value_heads": 4, **SHAPES[request.param]}
    config = AutoConfig.for_model(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.15,
        tie_word_embeddings=False,
        pad_token_id=0,
        **settings,
    )
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return made.bfloat16().float().eval()


def on_device(model: Any, dtype: torch.dtype, *, lean: bool = True) -> Any:
    moved = deepcopy(model).to("cuda", dtype)
    if lean:
        make_norms_lean(moved)
    return moved


def draw_rows(lengths: list[int], start: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    random = Random(5)
    return [(*start, *(random.randrange(1, VOCABULARY) for _ in range(n))) for n in lengths]


def logits_alone(model: Any, rows: list[tuple[int, ...]]) -> torch.Tensor:
    said = [model(input_ids=torch.tensor([row], device=model.device)).logits[0] for row in rows]
    return torch.cat(said).float().cpu()


def logits_packed(model: Any, pack: Pack) -> torch.Tensor:
    pack = pack.to(model.device)
    everywhere = torch.arange(pack.input_ids.shape[1])
    return packed_logits(model, pack, everywhere).float().cpu()


def test_the_kernel_for_rows_of_any_lengths_is_there() -> None:
    # Or everything below is true of the slow way only.
    assert can_attend_at_once(torch.zeros(1, 4, 8, 16, device="cuda", dtype=torch.bfloat16))
    assert not can_attend_at_once(torch.zeros(1, 4, 8, 16, device="cuda"))


@torch.no_grad()
def test_packed_logits_in_float32(model: Any) -> None:
    rows = draw_rows(LENGTHS)
    moved = on_device(model, torch.float32)
    with packed_attention(moved):
        said = logits_packed(moved, pack_rows(rows))
    torch.testing.assert_close(said, logits_alone(model, rows), atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_packed_logits_in_bfloat16(model: Any) -> None:
    rows = draw_rows(LENGTHS)
    exact = logits_alone(model, rows)
    usual = logits_alone(on_device(model, torch.bfloat16, lean=False), rows)
    moved = on_device(model, torch.bfloat16)
    with packed_attention(moved):
        said = logits_packed(moved, pack_rows(rows))
    assert float((said - exact).norm()) <= 1.1 * float((usual - exact).norm())


@torch.no_grad()
@pytest.mark.parametrize("prefix", [0, 4, 33])
def test_stems_and_prefix_in_bfloat16(model: Any, prefix: int) -> None:
    shared, one, other = draw_rows([prefix, 3, 30])
    bundles = [(one, draw_rows([2, 5, 5])), ((), draw_rows([6])), (other, draw_rows([1, 20]))]
    rows = [(*shared, *stem, *row) for stem, own in bundles for row in own]
    lengths = [len(row) for _, own in bundles for row in own]

    def last_ones(of_rows: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([len(row) for row in rows]).cumsum(0).tolist()
        return torch.cat(
            [of_rows[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        )

    exact = last_ones(logits_alone(model, rows))
    usual = last_ones(logits_alone(on_device(model, torch.bfloat16, lean=False), rows))
    moved = on_device(model, torch.bfloat16)
    pack = pack_behind_stems(bundles, first_position=prefix)
    with packed_attention(moved):
        if prefix:
            before = compute_prefix(moved, shared, moved.device)
            pack = replace(pack, layout=replace(pack.layout, prefix=before))
        everywhere = logits_packed(moved, pack)
    said = torch.cat(
        [
            everywhere[start : start + length]
            for start, length in zip(pack.starts, lengths, strict=True)
        ]
    )
    assert float((said - exact).norm()) <= 1.15 * float((usual - exact).norm())


def gradients(model: Any, rows: list[tuple[int, ...]], *, packed: bool) -> torch.Tensor:
    """Of all adapters, from the sum of every token's loss but the first of a row."""
    parts = [rows] if packed else [[row] for row in rows]
    for part in parts:
        pack = pack_rows(part).to(model.device)
        labels = pack.input_ids[0].roll(-1)
        trained = [
            start + at
            for start, row in zip(pack.starts, part, strict=True)
            for at in range(len(row) - 1)
        ]
        with packed_attention(model), without_head(model):
            hidden = packed_logits(model, pack, torch.tensor(trained))
        summed_head_loss(model, hidden, labels[trained]).backward()
    found = [w.grad.flatten() for w in model.parameters() if w.requires_grad]
    return torch.cat(found).float().cpu()


def adapted(model: Any) -> Any:
    torch.manual_seed(1)
    lora = add_lora(
        model, r=4, alpha=8, dropout=0.0, modules=(), use_dora=False, use_rslora=False
    ).train()
    draw = torch.Generator().manual_seed(2)
    for name, weight in lora.named_parameters():
        if "lora_" in name:
            weight.data = (torch.randn(weight.shape, generator=draw) / 8).to(weight.device)
    return lora


def test_gradients_of_adapters(model: Any) -> None:
    rows = draw_rows([2, 9, 9, 30, 65])
    exact = gradients(adapted(deepcopy(model)), rows, packed=False)
    in_float32 = gradients(adapted(on_device(model, torch.float32)), rows, packed=True)
    torch.testing.assert_close(in_float32, exact, atol=1e-3, rtol=1e-3)
    in_bfloat16 = gradients(adapted(on_device(model, torch.bfloat16)), rows, packed=True)
    usual = gradients(adapted(on_device(model, torch.bfloat16, lean=False)), rows, packed=False)
    distance, allowed = (float((each - exact).norm()) for each in (in_bfloat16, usual))
    assert distance <= 1.2 * allowed


@torch.no_grad()
def test_norms(model: Any) -> None:
    norm = model.get_decoder().layers[0].input_layernorm
    x = 3 * torch.randn(64, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    exact = norm(x.float())
    usual, lean = (on_device(norm, torch.bfloat16, lean=is_lean) for is_lean in (False, True))
    distance, allowed = (
        float((each(x.cuda()).float().cpu() - exact).norm()) for each in (lean, usual)
    )
    assert "forward" in vars(lean)
    assert distance <= allowed


class Words:
    """Replies as token numbers."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def test_replies(model: Any) -> None:
    prompts = draw_rows([3, 5, 5, 20])
    expected = [
        model.generate(torch.tensor([prompt]), max_new_tokens=8, min_new_tokens=8, do_sample=False)[
            0, len(prompt) :
        ].tolist()
        for prompt in prompts
    ]
    written = generate_replies(
        on_device(model, torch.float32),
        Words(),
        prompts,
        max_new_tokens=8,
        end_ids=(),
        stop_after_marker=False,
    )
    assert [reply.text for reply in written] == [Words().decode(ids) for ids in expected]

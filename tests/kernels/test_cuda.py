"""On a CUDA device: packs, norms, replies and training are as exact as the model's ordinary way.

Both ways are run on the device; what both are judged by is float64, on the CPU.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from caft.kernels.chunked_loss import summed_head_loss, without_head
from caft.kernels.packed_attention import packed_attention
from caft.kernels.packing import Pack, compute_prefix, pack_groups, pack_rows, packed_logits
from caft.kernels.rms_norm import fuse_rms_norms
from caft.kernels.varlen import can_attend_at_once
from caft.models.adapters import add_lora
from caft.models.reply_rules import ReplyRules
from caft.models.sampling import Draw, Sampling, draw_tokens
from caft.records import Example, Target
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.tune.batches import EpochLoader
from caft.tune.config import TuningConfig
from caft.tune.module import TuningModule
from numerics import DTYPES, Chain, Words, assert_as_exact, assert_greedy, chain_of, in_float64
from replies import generate_replies

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

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


def on_device(model: Any, dtype: torch.dtype, *, fused: bool = True) -> Any:
    moved = deepcopy(model).to("cuda", dtype)
    if fused:
        fuse_rms_norms(moved)
    return moved


def draw_rows(lengths: list[int], start: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    random = Random(5)
    return [(*start, *(random.randrange(1, VOCABULARY) for _ in range(n))) for n in lengths]


def logits_alone(model: Any, rows: list[tuple[int, ...]]) -> torch.Tensor:
    said = [model(input_ids=torch.tensor([row], device=model.device)).logits[0] for row in rows]
    return torch.cat(said).cpu()


def logits_packed(model: Any, pack: Pack) -> torch.Tensor:
    pack = pack.to(model.device)
    everywhere = torch.arange(pack.input_ids.shape[1])
    return packed_logits(model, pack, everywhere).cpu()


def test_the_kernel_for_rows_of_any_lengths_is_there() -> None:
    # Or everything below is true of the slow way only.
    assert can_attend_at_once(torch.zeros(1, 4, 8, 16, device="cuda", dtype=torch.bfloat16))
    assert not can_attend_at_once(torch.zeros(1, 4, 8, 16, device="cuda"))


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_logits(model: Any, dtype: torch.dtype) -> None:
    rows = draw_rows(LENGTHS)
    usual = logits_alone(on_device(model, dtype, fused=False), rows)
    moved = on_device(model, dtype)
    with packed_attention(moved):
        said = logits_packed(moved, pack_rows(rows))
    assert_as_exact(said, usual, logits_alone(in_float64(model), rows), chain_of(model))


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("prefix", [0, 4, 33])
def test_prefixes_of_groups_and_of_all(model: Any, prefix: int, dtype: torch.dtype) -> None:
    shared, one, other = draw_rows([prefix, 3, 30])
    groups = [(one, draw_rows([2, 5, 5])), ((), draw_rows([6])), (other, draw_rows([1, 20]))]
    rows = [(*shared, *start, *row) for start, own in groups for row in own]
    lengths = [len(row) for _, own in groups for row in own]

    def last_ones(of_rows: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([len(row) for row in rows]).cumsum(0).tolist()
        return torch.cat(
            [of_rows[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        )

    exact = last_ones(logits_alone(in_float64(model), rows))
    usual = last_ones(logits_alone(on_device(model, dtype, fused=False), rows))
    moved = on_device(model, dtype)
    pack = pack_groups(groups, first_position=prefix)
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
    assert_as_exact(said, usual, exact, chain_of(model))


def gradients(model: Any, rows: list[tuple[int, ...]], *, packed: bool) -> dict[str, torch.Tensor]:
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
    return {name: w.grad.cpu() for name, w in model.named_parameters() if w.requires_grad}


def gradients_in_float64(model: Any, rows: list[tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The same; our own loss is float32 at most."""
    exact = in_float64(model)
    for row in rows:
        ids = torch.tensor([row])
        logits = exact(input_ids=ids).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").backward()
    return {name: w.grad for name, w in exact.named_parameters() if w.requires_grad}


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_adapters(model: Any, dtype: torch.dtype) -> None:
    rows = draw_rows([2, 9, 9, 30, 65])
    exact = gradients_in_float64(adapted(deepcopy(model)), rows)
    said = gradients(adapted(on_device(model, dtype)), rows, packed=True)
    usual = gradients(adapted(on_device(model, dtype, fused=False)), rows, packed=False)
    assert_as_exact(said, usual, exact, chain_of(model).there_and_back(), dtype)


@torch.no_grad()
def test_norms(model: Any) -> None:
    norm = model.get_decoder().layers[0].input_layernorm
    x = 3 * torch.randn(64, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    wide, weight = x.double(), norm.weight.double()
    scale = (wide.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    usual, fused = (on_device(norm, torch.bfloat16, fused=is_fused) for is_fused in (False, True))
    assert "forward" in vars(fused)
    said = [each(x.cuda()).cpu() for each in (fused, usual)]
    assert_as_exact(*said, weight * wide * scale, Chain(width=64, depth=2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_replies(model: Any, dtype: torch.dtype) -> None:
    prompts, moved = draw_rows([3, 5, 5, 20]), on_device(model, dtype)
    written = generate_replies(
        moved,
        Words(),
        prompts,
        ReplyRules(max_new_tokens=8, end_ids=(), stop_after_marker=False),
        rows=2,
    )
    usual = deepcopy(model).to(dtype)
    for prompt, reply in zip(prompts, written, strict=True):
        assert_greedy(usual, in_float64(model), prompt, list(reply.ids))


@pytest.mark.parametrize("dials", [{}, {"top_k": 20}, {"top_p": 0.8}, {"min_p": 0.05}], ids=str)
def test_tokens_are_drawn_as_on_a_cpu(dials: dict[str, Any]) -> None:
    logits = 2 * torch.randn(400, 5000, generator=torch.Generator().manual_seed(1))
    draws = [Draw(f"q{n}", n % 3, n % 7) for n in range(400)]
    sampling = Sampling(temperature=0.9, seed=2, **dials)
    drawn = [draw_tokens(logits.to(device), sampling, draws).cpu() for device in ("cpu", "cuda")]
    # Logarithms round differently there: a near tie may fall the other way.
    assert int((drawn[0] != drawn[1]).sum()) <= 2


def train(model: Any, folder: Path, *, replayed: bool) -> tuple[list[float], TuningModule]:
    """Losses by step, of steps of two passes or more."""
    draw = Random(2)
    rows = [
        Example(
            question_id=str(number),
            target=Target.answer,
            complexity="easy",
            prompt_ids=tuple(draw.randrange(1, VOCABULARY) for _ in range(draw.randint(3, 40))),
            completion_ids=(number % 5 + 1, 2),
        )
        for number in range(48)
    ]
    losses: list[float] = []
    module = TuningModule(
        adapted(on_device(model, torch.bfloat16)),
        TuningConfig(batch_size=12, learning_rate=1e-2),
        steps=12,
        record=lambda row: losses.append(row["loss"]),
    )
    if not replayed:
        module._plan_replays = lambda: None
    trainer = build_trainer(
        TrainerConfig(accelerator="cuda", progress=False), folder=folder, epochs=3
    )
    trainer.fit(module, EpochLoader(rows, 12, 200, seed=0))
    return losses, module


def test_replayed_passes_train_what_launched_ones_train(model: Any, tmp_path: Path) -> None:
    launched, _ = train(model, tmp_path, replayed=False)
    replayed, module = train(model, tmp_path, replayed=True)
    assert module.replays is not None
    assert module.replays.is_proven
    assert replayed[-1] < replayed[0]
    # Twelve steps in bfloat16, of which each starts from the rounding of those before.
    assert replayed[:4] == pytest.approx(launched[:4], rel=0.02)
    assert replayed == pytest.approx(launched, rel=0.1)

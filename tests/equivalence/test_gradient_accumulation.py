"""One optimizer step of 8 rows: cut into passes in any way, and done the plain way, it is the same.

The plain way is transformers' own forward, row by row, with -100 on the prompt and the mean over
all trained tokens of the step; a mean of means would differ, since the rows train 2 to 5 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from caft.kernels.chunked_loss import has_plain_head
from caft.models.adapters import prepare_checkpointing
from caft.records import Example, Target
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.tune.batches import make_step
from caft.tune.config import Adapter, TuningConfig
from caft.tune.module import TuningModule
from numerics import assert_as_exact, chain_of, in_float64

pytestmark = pytest.mark.numerics

ARCHITECTURES = ("llama", "qwen2", "phi3")
# Tokens of a row without its last one, two rows each; 18 is room for two rows and no third.
LENGTHS = (6, 6, 7, 7, 8, 8, 9, 9)
TOKENS_OF_A_PASS = {8: 1, 4: 18, 1: 1000}
CONFIG = TuningConfig(adapter=Adapter.full, learning_rate=1e-3, clip=0.5)


@pytest.fixture(scope="module")
def model_of() -> Callable[[str], Any]:
    models = {name: make_model(name) for name in ARCHITECTURES}
    return lambda name: deepcopy(models[name])


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
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float()


def eight_rows() -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for number, length in enumerate(LENGTHS):
        ids = tuple(torch.randint(3, 61, (length + 1,), generator=generator).tolist())
        trained = 2 + number % 4
        rows.append(
            Example(
                question_id=f"q{number}",
                target=Target.answer,
                complexity="easy",
                prompt_ids=ids[:-trained],
                completion_ids=ids[-trained:],
            )
        )
    # A step's rows come in the order of an epoch, not of their length.
    return [rows[number] for number in (5, 0, 7, 2, 4, 1, 6, 3)]


def step_in_passes(model: Any, passes: int, folder: Any) -> float:
    step = make_step(eight_rows(), TOKENS_OF_A_PASS[passes])
    assert len(step.packs) == passes
    curve: list[dict[str, float]] = []
    module = TuningModule(model, CONFIG, steps=1, record=curve.append)
    trainer = build_trainer(TrainerConfig(accelerator="cpu", progress=False), folder=folder)
    batches: Any = [step]
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return curve[0]["loss"]


def gradients_of(model: Any) -> dict[str, torch.Tensor]:
    """As they were left behind the step: clipped."""
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def plain_step(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and the clipped gradients of a step that is also taken."""
    rows = eight_rows()
    total = sum(len(row.completion_ids) for row in rows)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    loss = torch.zeros((), dtype=model.dtype)
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.completion_ids])
        labels = ids.clone()
        labels[:, : len(row.prompt_ids)] = -100
        logits = model(input_ids=ids).logits
        loss = loss + cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")
    (loss / total).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    return loss.detach() / total, gradients_of(model)


def moved_by(model: Any, gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that AdamW makes of `model`'s out of `gradients`."""
    for name, weight in model.named_parameters():
        weight.grad = gradients[name].clone()
    torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0).step()
    return dict(model.named_parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_however_cut_a_step_is_the_plain_step(model_of, architecture, tmp_path):
    """Gradients are judged and not the weights: AdamW divides rounding by gradients near zero."""
    loss, usual = plain_step(model_of(architecture))
    exact_loss, exact = plain_step(in_float64(model_of(architecture)))
    chain = chain_of(model_of(architecture)).there_and_back()
    for passes in TOKENS_OF_A_PASS:
        model, start = model_of(architecture), model_of(architecture)
        said = torch.tensor(step_in_passes(model, passes, tmp_path))
        found = gradients_of(model)
        assert_as_exact(found, usual, exact, chain)
        assert_as_exact(said, loss, exact_loss, chain)
        # The same formula on the same numbers, whichever way it is vectorised.
        expected = moved_by(start, found)
        rounding = 4 * torch.finfo(torch.float32).eps
        for name, weight in model.named_parameters():
            torch.testing.assert_close(
                weight, expected[name], rtol=rounding, atol=2 * rounding * 1e-3
            )
            assert not torch.equal(weight, model_of(architecture).state_dict()[name]), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_checkpointing_changes_memory_and_nothing_else(model_of, architecture, tmp_path):
    ordinary, frugal = model_of(architecture), model_of(architecture)
    prepare_checkpointing(frugal)
    assert has_plain_head(frugal)  # by a pass of its own
    runs = [0, 0]

    def count(layer: int) -> None:
        runs[layer] += 1

    for number, layer in enumerate(frugal.model.layers):
        layer.self_attn.register_forward_hook(lambda *_, n=number: count(n))
    losses = [step_in_passes(model, 4, tmp_path) for model in (ordinary, frugal)]
    # Forward, and once more on the way back; not the last layer, whose way back comes at once.
    assert runs == [2 * 4, 4]
    assert losses[0] == losses[1]
    for name, weight in frugal.state_dict().items():
        assert torch.equal(weight, ordinary.state_dict()[name]), name

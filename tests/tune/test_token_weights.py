"""The losses that weigh tokens: weights by hand, and gradients against autograd's own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from caft.kernels import chunked_loss
from caft.kernels.chunked_loss import summed_cross_entropy, summed_head_loss
from caft.records import Example, Target
from caft.tune.batches import make_step
from caft.tune.config import Loss, TuningConfig
from caft.tune.module import TuningModule
from caft.tune.token_weights import TOKEN_WEIGHTS
from numerics import Head

BY_HAND = {
    # p(label) of 1/2, 1/4, 1/4, 0; of four equal words; of a word that is certain.
    Loss.dft: [1 / 4, 1 / 4, 1.0],
    # Entropies 1.5 ln 2, 2 ln 2 and 0, over ln 4 = 2 ln 2.
    Loss.eaft: [3 / 4, 1.0, 0.0],
}


@pytest.mark.parametrize("loss", BY_HAND, ids=str)
def test_weights_by_hand(loss: Loss) -> None:
    p = torch.tensor([[0.5, 0.25, 0.25, 0], [0.25] * 4, [0, 0, 1, 0]], dtype=torch.float64)
    labels = torch.tensor([[1], [3], [2]])
    weigh = TOKEN_WEIGHTS[loss]
    assert weigh is not None
    found = weigh(p.log(), p.log().gather(1, labels))
    assert found.shape == (3, 1)
    assert found[:, 0].tolist() == pytest.approx(BY_HAND[loss], abs=1e-15)


def plain_loss(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The papers' formulas, over all logits at once."""
    p = logits.softmax(-1)
    chosen = p[torch.arange(len(labels)), labels]
    weights = {
        Loss.ce: torch.ones_like(chosen),
        Loss.dft: chosen,
        Loss.eaft: -(p * p.log()).sum(-1) / math.log(logits.shape[-1]),
    }[loss]
    return -(weights.detach() * chosen.log()).sum()


@pytest.mark.parametrize("loss", Loss, ids=str)
@pytest.mark.parametrize("head", ["plain", "another"])
def test_gradients_are_the_papers_and_the_value_stays_the_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, loss: Loss, head: str
) -> None:
    # Several chunks, the last of them short.
    monkeypatch.setattr(chunked_loss, "_CHUNK", 11 * 5)
    monkeypatch.setattr(chunked_loss, "_ROWS", 5)
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, 7, generator=generator) for n in (23, 11))
    labels = torch.randint(11, (23,), generator=generator)
    exact_states, exact_weight = (part.double().requires_grad_() for part in (states, weight))
    logits = exact_states @ exact_weight.T
    plain_loss(loss, logits, labels).backward()
    states.requires_grad_()
    made = Head(weight)
    weigh = TOKEN_WEIGHTS[loss]
    if head == "plain":
        value = summed_head_loss(made, states, labels, weigh)
    else:
        value = summed_cross_entropy(made.layer(states), labels, weigh)
    value.backward()
    shown = float(plain_loss(Loss.ce, logits, labels).detach())
    assert float(value.detach()) == pytest.approx(shown, rel=1e-6)
    for found, exact in ((states, exact_states), (made.layer.weight, exact_weight)):
        assert found.grad is not None
        torch.testing.assert_close(found.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)


def rows() -> list[Example]:
    """Rows of several lengths and weights in the loss."""
    return [
        Example(
            question_id=f"q{n}", target=Target.rationale, complexity="hard",
            prompt_ids=(3, 4 + n, 5), completion_ids=tuple(range(8, 10 + n)),
            weight=2.0 if n % 2 else 0.5,
        )
        for n in range(4)
    ]  # fmt: skip


@pytest.mark.parametrize("loss", [Loss.dft, Loss.eaft], ids=str)
@pytest.mark.parametrize("most_tokens", [1, 100])
def test_a_step_is_the_weighted_mean_over_its_tokens_however_it_is_packed(
    monkeypatch: pytest.MonkeyPatch, loss: Loss, most_tokens: int
) -> None:
    """By its rows alone, in float64: sum of w[row] w[token] (-ln p) over sum of w[row]."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama", vocab_size=31, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    exact: Any = AutoModelForCausalLM.from_config(config).double()
    exact.load_state_dict(model.state_dict())
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for row in rows():
        ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
        logits = exact(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1]
        labels = torch.tensor(row.completion_ids)
        total = total + row.weight * plain_loss(loss, logits, labels)
        weight += row.weight * len(labels)
    (total / weight).backward()
    module = TuningModule(model, replace(TuningConfig(), loss=loss), steps=1, record=print)
    monkeypatch.setattr(module, "manual_backward", torch.Tensor.backward)
    # Two devices: their gradients are summed.
    for share in (slice(0, None, 2), slice(1, None, 2)):
        module._accumulate(make_step(rows(), most_tokens, share))
    for name, parameter in model.named_parameters():
        wanted = exact.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad.double(), wanted, rtol=1e-4, atol=1e-6)

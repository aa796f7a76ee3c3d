"""Entropies against values worked out by hand, and against an independent float64 reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from caft.models import estimates as reading
from caft.models.estimates import entropy_of, estimate_complexity
from numerics import Chain

pytestmark = pytest.mark.numerics


def rounding(size: int, largest: float = 1.0) -> float:
    """What float32 leaves of the logarithm of a sum of `size` terms and of what is made of it.

    The absolute error of ln p, as large as `largest`, is the relative error of p.
    """
    return Chain(width=size, depth=3).roundoff(torch.float32) * (math.log(size) + largest)


def near(value: Any, size: int, largest: float = 1.0) -> Any:
    """Entropies, logarithms, differences."""
    return pytest.approx(value, abs=rounding(size, largest))


def near_share(value: float, size: int, largest: float = 1.0) -> Any:
    """Probabilities."""
    return pytest.approx(value, rel=rounding(size, largest), abs=0)


def estimate(logits: torch.Tensor, labels: tuple[int, ...]) -> dict[str, float | None]:
    return estimate_complexity(logits[None], [labels])[0].estimates


def reference_entropy(logits: np.ndarray) -> float:
    """H = ln Z - sum p x, another form of the same number, all in float64."""
    shifted = logits.astype(np.float64) - logits.max()
    weights = np.exp(shifted)
    total = weights.sum()
    present = weights > 0
    return float(np.log(total) - (weights[present] * shifted[present]).sum() / total)


@pytest.mark.parametrize("size", [2, 10, 1000])
def test_uniform_over_the_vocabulary_is_ln_of_its_size(size: int) -> None:
    estimates = estimate(torch.full((size,), 3.5), (0, 1))
    assert estimates["answer_entropy"] == near(math.log(size), size)
    assert estimates["top1_probability"] == near_share(1 / size, size)
    assert estimates["top1_margin"] == 0.0
    assert estimates["option_entropy"] == near(math.log(2), size)
    assert estimates["option_mass"] == near_share(2 / size, size)


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1, 0.01])
def test_two_outcomes(share: float) -> None:
    # 1/4: ln 4 - (3/4) ln 3; 1/10: ln 10 - (9/10) ln 9.
    nats = -share * math.log(share) - (1 - share) * math.log(1 - share)
    logits = torch.tensor([math.log(share), math.log(1 - share)])
    assert entropy_of(torch.log_softmax(logits, -1)) == near(nats, 2, -math.log(share))


def test_impossible_tokens_add_nothing() -> None:
    logits = torch.tensor([0.0, -math.inf, 0.0, -math.inf])
    estimates = estimate(logits, (0, 1))
    assert estimates["answer_entropy"] == near(math.log(2), 4)
    assert estimates["option_entropy"] == 0.0
    assert estimates["option_mass"] == near_share(0.5, 4)


def test_a_certain_token_has_entropy_zero() -> None:
    estimates = estimate(torch.tensor([0.0, 500.0, -500.0]), ())
    assert estimates["answer_entropy"] == 0.0
    assert estimates["top1_margin"] == 1.0


def test_options_by_hand() -> None:
    # p = 1/2, 1/4, 1/8, 1/8; options are the first and the third token: renormalised 4/5, 1/5.
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    estimates = estimate(logits, (0, 2))
    by_hand = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert estimates == {
        "answer_entropy": near(1.75 * math.log(2), 4),
        "option_entropy": near(by_hand, 4),
        "option_mass": near_share(0.625, 4),
        "top1_probability": near_share(0.5, 4),
        "top1_margin": near(0.25, 4),
    }


def test_the_answer_entropy_is_not_renormalised_to_the_options() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1))
    with_options = estimate(logits, (3, 4))
    without = estimate(logits, ())
    assert with_options["answer_entropy"] == without["answer_entropy"]
    assert without["option_entropy"] is None
    assert without["option_mass"] is None


@pytest.mark.parametrize("spread", [0.1, 3.0, 20.0])
def test_agrees_with_float64_over_a_real_vocabulary_size(spread: float) -> None:
    logits = spread * torch.randn(151_936, generator=torch.Generator().manual_seed(7))
    labels = (17, 40_000, 151_935)
    estimates = estimate(logits, labels)
    values = logits.numpy()
    largest = float(logits.max() - logits[list(labels)].min())
    expected = reference_entropy(values)
    assert estimates["answer_entropy"] == near(expected, len(values), float(logits.max()))
    options = reference_entropy(values[list(labels)])
    assert estimates["option_entropy"] == near(options, len(labels), largest)


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = (4 * torch.randn(49_152, generator=torch.Generator().manual_seed(3))).bfloat16()
    exact = reference_entropy(logits.float().numpy())
    assert estimate(logits, (5, 6))["answer_entropy"] == near(exact, len(logits))
    # What the float32 is for: no bfloat16 number is nearer.
    assert abs(float(torch.tensor(exact).bfloat16()) - exact) > 10 * rounding(len(logits))


def test_rows_are_read_together_as_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of three chunks, with other numbers of labels, and free text between them.
    size = 1000
    monkeypatch.setattr(reading, "_CHUNK", 2 * size)
    logits = 5 * torch.randn(5, size, generator=torch.Generator().manual_seed(5))
    labels: list[tuple[int, ...]] = [(3, 4), (), (7, 8, 9, size - 1), (5,), (1, 2, 3)]
    together = estimate_complexity(logits, labels)
    for row, ids, said in zip(logits, labels, together, strict=True):
        log_p = torch.log_softmax(row.double(), -1)
        assert said.token == int(row.argmax())
        largest = float(log_p.abs().max())
        assert said.label_log_p == near(tuple(log_p[list(ids)].tolist()), size, largest)
        alone = estimate_complexity(row[None], [ids])[0]
        assert said.estimates == near(alone.estimates, size, largest)

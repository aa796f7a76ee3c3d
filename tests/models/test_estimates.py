"""Entropies against values worked out by hand, and against an independent float64 reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caft.models import estimates as reading
from caft.models.estimates import entropy_of, estimate_complexity


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
    assert estimates["answer_entropy"] == pytest.approx(math.log(size), abs=1e-5)
    assert estimates["top1_probability"] == pytest.approx(1 / size)
    assert estimates["top1_margin"] == 0.0
    assert estimates["option_entropy"] == pytest.approx(math.log(2), abs=1e-6)
    assert estimates["option_mass"] == pytest.approx(2 / size)


@pytest.mark.parametrize(
    ("share", "nats"),
    # -(1/4) ln(1/4) - (3/4) ln(3/4) = ln 4 - (3/4) ln 3; and 1/10: ln 10 - (9/10) ln 9.
    [(0.5, 0.693147), (0.25, 0.562335), (0.1, 0.325083), (0.01, 0.056002)],
)
def test_two_outcomes(share: float, nats: float) -> None:
    logits = torch.tensor([math.log(share), math.log(1 - share)])
    assert entropy_of(torch.log_softmax(logits, -1)) == pytest.approx(nats, abs=1e-6)


def test_impossible_tokens_add_nothing() -> None:
    logits = torch.tensor([0.0, -math.inf, 0.0, -math.inf])
    estimates = estimate(logits, (0, 1))
    assert estimates["answer_entropy"] == pytest.approx(math.log(2), abs=1e-6)
    assert estimates["option_entropy"] == 0.0
    assert estimates["option_mass"] == pytest.approx(0.5)


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
        "answer_entropy": pytest.approx(1.75 * math.log(2), abs=1e-6),
        "option_entropy": pytest.approx(by_hand, abs=1e-6),
        "option_mass": pytest.approx(0.625, abs=1e-6),
        "top1_probability": pytest.approx(0.5, abs=1e-6),
        "top1_margin": pytest.approx(0.25, abs=1e-6),
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
    # Rounding of a float32 sum grows like the root of its length: 5e-5 of the value here.
    rounding = float(np.finfo(np.float32).eps) * math.sqrt(len(values))
    assert estimates["answer_entropy"] == pytest.approx(reference_entropy(values), rel=rounding)
    options = reference_entropy(values[list(labels)])
    assert estimates["option_entropy"] == pytest.approx(options, abs=1e-5)


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = (4 * torch.randn(49_152, generator=torch.Generator().manual_seed(3))).bfloat16()
    exact = reference_entropy(logits.float().numpy())
    assert estimate(logits, (5, 6))["answer_entropy"] == pytest.approx(exact, abs=1e-4)
    in_bfloat16 = float(torch.special.entr(torch.softmax(logits, -1)).sum())
    assert abs(in_bfloat16 - exact) > 1e-3  # what the float32 is for


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
        assert said.label_log_p == pytest.approx(tuple(log_p[list(ids)].tolist()), abs=1e-5)
        alone = estimate_complexity(row[None], [ids])[0]
        assert said.estimates == pytest.approx(alone.estimates, abs=1e-6)

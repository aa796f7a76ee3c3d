"""Drawn tokens: the right distribution, transformers' filters, and the same draw wherever it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caft.models.sampling import (
    Draw,
    Sampling,
    _hash_draws,
    _mix,
    draw_tokens,
    gumbel_noise,
    truncate,
)

pytestmark = pytest.mark.numerics

VOCABULARY = 1000
FILTERS = {
    "temperature": {"temperature": 0.6},
    "hot": {"temperature": 1.7},
    "top_k": {"temperature": 0.8, "top_k": 7},
    "top_k of all": {"temperature": 1.0, "top_k": 5000},
    "top_p": {"temperature": 1.0, "top_p": 0.9},
    "top_p of nearly all": {"temperature": 3.0, "top_p": 0.99},
    "top_p of one": {"temperature": 0.3, "top_p": 1e-6},
    "min_p": {"temperature": 1.2, "min_p": 0.05},
    "all": {"temperature": 1.5, "top_k": 40, "top_p": 0.8, "min_p": 0.1},
}


def make_logits(rows: int = 3, size: int = VOCABULARY) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return 2.5 * torch.randn(rows, size, generator=generator)


def filter_by_transformers(logits: torch.Tensor, dials: dict[str, Any]) -> torch.Tensor:
    """The warpers that `generate` would apply, in its own order."""
    from transformers import GenerationConfig, GenerationMixin, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1,
    )  # fmt: skip
    settings = GenerationConfig(do_sample=True, **{"top_k": 0, **dials})
    processors = GenerationMixin._get_logits_processor(LlamaForCausalLM(config), settings)
    return processors(torch.zeros(len(logits), 1, dtype=torch.long), logits.clone())


@pytest.mark.parametrize("dials", FILTERS.values(), ids=FILTERS)
def test_filters_are_those_of_transformers(dials: dict[str, Any]) -> None:
    logits = make_logits().double()
    expected = filter_by_transformers(logits, dials)
    found = truncate(logits, Sampling(**dials))
    assert torch.equal(found.isinf(), expected.isinf())
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1))


def test_a_nucleus_larger_than_its_first_look_is_found() -> None:
    # Nearly uniform: 95% of the mass needs some 18,000 tokens.
    logits = 0.01 * make_logits(2, 20_000).double()
    kept = (~truncate(logits, Sampling(temperature=1.0, top_p=0.95)).isinf()).sum(-1)
    expected = (~filter_by_transformers(logits, {"top_p": 0.95}).isinf()).sum(-1)
    assert kept.tolist() == expected.tolist()
    assert min(kept.tolist()) > 18_000


class OnApple(torch.Tensor):
    """On a device without float64."""

    device = torch.device("mps")

    def to(self, dtype: torch.dtype) -> torch.Tensor:  # type: ignore[override]
        """As torch refuses it there."""
        if dtype is torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return super().to(dtype)

    def double(self) -> torch.Tensor:
        """The same."""
        return self.to(torch.float64)


def test_a_device_without_float64_finds_the_same_nucleus() -> None:
    scores = 3 * torch.randn(4, 2000, generator=torch.Generator().manual_seed(0))
    for top_p in (0.1, 0.5, 0.9):
        sampling = Sampling(temperature=1.0, top_p=top_p)
        found = truncate(scores.as_subclass(OnApple), sampling)
        assert found.as_subclass(torch.Tensor).equal(truncate(scores, sampling))


def test_tokens_that_are_tied_with_the_last_one_kept_are_kept() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0]])
    for dials in ({"top_k": 2}, {"top_p": 0.6}):
        kept = ~truncate(logits, Sampling(temperature=1.0, **dials)).isinf()
        assert kept.tolist() == [[True, False, True, True, True]]


@pytest.mark.parametrize("name", ["temperature", "top_p", "all"])
def test_tokens_are_drawn_in_proportion_to_their_probability(name: str) -> None:
    from scipy.stats import chisquare

    times, dials = 20_000, FILTERS[name]
    logits = make_logits(1, 300)
    sampling = Sampling(**dials, seed=3)
    draws = [Draw(f"q{n % 100}", n // 100 % 8, n // 800) for n in range(times)]
    drawn = draw_tokens(logits.expand(times, -1), sampling, draws)
    shares = filter_by_transformers(logits.double(), dials).softmax(-1)[0]
    counts = torch.bincount(drawn, minlength=300).double()
    assert counts[shares == 0].sum() == 0
    # Tokens that are expected fewer than ten times are counted together.
    often = shares * times >= 10
    found = [*counts[often].tolist(), float(counts[~often].sum())]
    expected = [*(shares[often] * times).tolist(), float(shares[~often].sum() * times)]
    if expected[-1] == 0:
        found, expected = found[:-1], expected[:-1]
    assert len(found) > 5
    assert chisquare(found, expected, sum_check=False).pvalue > 0.001


def test_noise_of_neighbours_in_any_direction_is_independent() -> None:
    # 64 x 64 draws of 512 tokens: a correlation of more than 5 standard errors is no chance.
    size, side = 512, 64
    draws = [Draw("q", sample, position) for sample in range(side) for position in range(side)]
    noise = gumbel_noise(_hash_draws(0, draws), size).double().view(side, side, size)
    uniform = torch.exp(-torch.exp(-noise)) - 0.5
    assert abs(float(uniform.mean())) < 5 * 12**-0.5 / uniform.numel() ** 0.5
    assert float(uniform.var()) == pytest.approx(1 / 12, rel=0.005)
    for axis in range(3):
        for step in (1, 2, 16, 32):
            one, other = uniform, uniform.roll(step, axis)
            correlation = float((one * other).mean()) * 12
            assert abs(correlation) < 5 / uniform.numel() ** 0.5, (axis, step)


def test_a_draw_depends_on_its_own_name_alone() -> None:
    logits = make_logits(70, 3000)
    draws = [Draw(f"q{n}", n % 3, n % 11) for n in range(70)]
    sampling = Sampling(temperature=1.0, seed=1)
    together = draw_tokens(logits, sampling, draws).tolist()
    alone = [int(draw_tokens(logits[n : n + 1], sampling, draws[n : n + 1])) for n in range(70)]
    assert together == alone
    same = draw_tokens(logits[:1].expand(70, -1), sampling, [Draw("q", 0, 0)] * 70)
    assert len(set(same.tolist())) == 1
    others = {
        "seed": (Sampling(temperature=1.0, seed=2), draws),
        "question": (sampling, [draw._replace(question="p") for draw in draws]),
        "sample": (sampling, [draw._replace(sample=9) for draw in draws]),
        "position": (sampling, [draw._replace(position=99) for draw in draws]),
    }
    for changed, (settings, other) in others.items():
        drawn = draw_tokens(logits, settings, other).tolist()
        assert sum(map(int.__eq__, drawn, together)) < 20, changed


def test_rounding_of_logits_moves_few_draws() -> None:
    # The race bounds the share that moves by twice the distance of the two distributions.
    logits = make_logits(4000, 2000)
    draws = [Draw(f"q{n}", 0, 0) for n in range(4000)]
    sampling = Sampling(temperature=1.0)
    rounded = logits.bfloat16().float()
    distance = (logits.softmax(-1) - rounded.softmax(-1)).abs().sum(-1).mean() / 2
    moved = draw_tokens(logits, sampling, draws) != draw_tokens(rounded, sampling, draws)
    assert 0 < float(distance) < 0.01
    assert float(moved.float().mean()) < 4 * float(distance)


def test_the_hash_is_the_published_one() -> None:
    def lowbias32(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    given = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF]
    signed = torch.tensor([x - 2**32 if x >= 2**31 else x for x in given], dtype=torch.int32)
    assert [int(x) % 2**32 for x in _mix(signed)] == [lowbias32(x) for x in given]

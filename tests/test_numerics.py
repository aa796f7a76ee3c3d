"""The judge itself: rounding passes, faults that rounding could hide do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from numerics import DTYPES, Chain, assert_as_exact, assert_greedy, chain_of, in_float64

pytestmark = pytest.mark.numerics

IDS = torch.tensor([[1, 7, 5, 9, 3, 2, 8, 6]])


def make_model() -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama", vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def product(dtype: torch.dtype, width: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(width, width, generator=draw).to(dtype) for _ in range(2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_sum_in_another_order_is_as_exact(dtype: torch.dtype) -> None:
    one, other = product(dtype)
    exact = one.double() @ other.double()
    order = torch.randperm(512, generator=torch.Generator().manual_seed(1))
    said = one[:, order] @ other[order]
    assert_as_exact(said, one @ other, exact, Chain(width=512))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_needless_rounding_on_the_way_is_not(dtype: torch.dtype) -> None:
    # Parts of the sum in half of the digits: an error that no single number shows.
    one, other = product(dtype)
    exact = one.double() @ other.double()
    fewer = torch.bfloat16 if dtype is torch.float32 else torch.float8_e5m2
    said = (one.float() @ other.float()).to(fewer).to(dtype)
    with pytest.raises(AssertionError, match=r"the fast way is .* from float64 \(mean\)"):
        assert_as_exact(said, one @ other, exact, Chain(width=512))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_wrong_number_is_not(dtype: torch.dtype) -> None:
    one, other = product(dtype)
    exact = one.double() @ other.double()
    said = one @ other
    said[3, 4] += 0.04 * said.abs().max()
    with pytest.raises(AssertionError, match=r"from float64"):
        assert_as_exact(said, one @ other, exact, Chain(width=512))


def test_a_plain_way_that_is_exact_by_luck_leaves_the_floor() -> None:
    exact = torch.tensor([1.0, 2.0], dtype=torch.float64)
    plain = exact.float()
    near = plain * (1 + torch.finfo(torch.float32).eps)
    assert_as_exact(near, plain, exact, Chain(width=16))
    with pytest.raises(AssertionError):
        assert_as_exact(plain * 1.00001, plain, exact, Chain(width=16))


@torch.no_grad()
def test_nothing_in_the_float64_run_is_float32() -> None:
    """A step of 1e-11 of the embeddings would vanish in a float32, or move it by a whole place."""
    exact = in_float64(make_model())
    embedded = exact.get_input_embeddings()(IDS)
    direction = torch.randn(embedded.shape, dtype=torch.float64)

    def moved(step: float) -> torch.Tensor:
        return (
            exact(inputs_embeds=embedded + step * direction).logits
            - exact(inputs_embeds=embedded).logits
        )

    small, large = moved(1e-11) / 1e-11, moved(1e-8) / 1e-8
    assert float((small - large).norm()) < 1e-3 * float(large.norm())


def test_a_greedy_token_is_the_best_or_tied() -> None:
    model = make_model()
    exact = in_float64(model)
    with torch.no_grad():
        best = exact(input_ids=IDS).logits[0, -1].topk(2)
    assert float(best.values[0] - best.values[1]) > 1e-2
    assert_greedy(model, exact, IDS[0].tolist(), best.indices[:1].tolist())
    with pytest.raises(AssertionError, match="token 0 is"):
        assert_greedy(model, exact, IDS[0].tolist(), best.indices[1:].tolist())


def test_depth_and_width_are_counted() -> None:
    # Two layers of six products and the head; half a unit of float32 is 2 to the minus 24.
    chain = chain_of(make_model())
    assert chain == Chain(width=48, depth=13)
    assert chain.roundoff(torch.float32) == pytest.approx(13**0.5 * (1 + 48**0.5) * 2**-24)
    assert Chain(1).roundoff(torch.bfloat16) == pytest.approx(2**-8 * 0.5 * 2 + 2**-24)

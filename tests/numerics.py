"""Judges a fast way of computing against the plain one: both by their distance from float64.

A bound on how far two float32 results may lie apart is met or missed by the order in which one
processor adds. Here the same thing is run in float64, which is the truth as far as float32 can
tell, and the fast way may be no further from it than a multiple of the plain way's own distance,
plus a floor for where the plain way is exact by luck. The multiples are measured
(docs/decisions/0032-numerical-tests.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

# Of the plain way's error, taken over all numbers of a result, and of its worst one, which chance
# moves further. 1.6 and 2.2 were needed at most.
MEAN_MULTIPLE, WORST_MULTIPLE = 3.0, 4.0
# Those that the fast ways are written for.
DTYPES = (torch.float32, torch.bfloat16)
# A transformer layer's products in a row: query, scores, values, output, gate, down.
_PRODUCTS_A_LAYER = 6
# Where tests/numerics_matrix.py wants to read what was measured.
FIGURES = "CAFT_NUMERICS_FIGURES"

Result = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]


class Head:
    """What the loss needs of a model."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.layer.weight = torch.nn.Parameter(weight)

    def get_output_embeddings(self) -> torch.nn.Linear:
        return self.layer


class Words:
    """Replies as token numbers."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


@dataclass(frozen=True, slots=True)
class Chain:
    """What rounds on the way to a number: `depth` products in a row, the longest of `width` terms.

    Roundings are independent, so that n of them grow like the root of n. A product's sum is kept in
    float32 at least and stored in the dtype: `roundoff` is what `depth` of these leave of a number
    of size 1, in half units of the last place.
    """

    width: int
    depth: int = 1

    def roundoff(self, dtype: torch.dtype) -> float:
        """Relative error of a result in `dtype` that nobody is to blame for."""
        stored = torch.finfo(dtype).eps / 2
        summed = torch.finfo(torch.float32).eps / 2 * self.width**0.5
        return float(self.depth**0.5 * (stored + summed))

    def there_and_back(self) -> Chain:
        """The chain of a gradient."""
        return Chain(self.width, 2 * self.depth)


def chain_of(model: Any) -> Chain:
    """From a transformer's tokens to its logits; rows of a test are shorter than it is wide."""
    config = model.config
    width = max(config.hidden_size, config.intermediate_size)
    return Chain(width, _PRODUCTS_A_LAYER * config.num_hidden_layers + 1)


def in_float64(model: Any) -> Any:
    """A copy that computes in float64 throughout, by the plain way.

    transformers' norms and its eager softmax go through float32 whatever the dtype is. The angles
    of rotary embeddings stay float32: they are given to every way alike.
    """
    exact = deepcopy(model).double()
    exact.set_attn_implementation("sdpa")
    for module in exact.modules():
        vars(module).pop("forward", None)
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(_norm, module)
    return exact


def _norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    scale = (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    return torch.as_tensor(norm.weight * (x * scale))


def assert_as_exact(
    fast: Result, plain: Result, exact: Result, chain: Chain, dtype: torch.dtype | None = None
) -> None:
    """AssertionError with the figures where `fast` is further from `exact` than is plain rounding.

    All three are tensors, or equally many, of equal shapes; `exact` is float64. `dtype` is what was
    computed in, where results are wider.
    """
    parts = zip(_named(fast), _named(plain), _named(exact), strict=True)
    for (name, ours), (its_name, theirs), (_, truth) in parts:
        assert name == its_name
        assert truth.dtype is torch.float64
        assert ours.shape == theirs.shape == truth.shape, (name, ours.shape, truth.shape)
        wide = dtype or theirs.dtype
        for measure, multiple in ((mean, MEAN_MULTIPLE), (worst, WORST_MULTIPLE)):
            error, usual = (measure(said.cpu().double() - truth.cpu()) for said in (ours, theirs))
            floor = chain.roundoff(wide) * measure(truth)
            _keep_figures(name, wide, measure, error, usual, floor)
            assert error <= multiple * usual + floor, (
                f"{name}: the fast way is {error:.3g} from float64 ({measure.__name__}), the "
                f"plain one {usual:.3g}; {multiple:g} times that and {floor:.3g} are allowed"
            )


def _named(result: Result) -> list[tuple[str, torch.Tensor]]:
    if isinstance(result, torch.Tensor):
        return [("the result", result.detach())]
    if isinstance(result, Mapping):
        return [(name, result[name].detach()) for name in sorted(result)]
    return [(f"result {number}", part.detach()) for number, part in enumerate(result)]


def mean(numbers: torch.Tensor) -> float:
    """The root of the mean square."""
    return float(numbers.square().mean().sqrt())


def worst(numbers: torch.Tensor) -> float:
    """The largest, whatever its sign."""
    return float(numbers.abs().max())


def _keep_figures(  # noqa: PLR0917
    name: str,
    dtype: torch.dtype,
    measure: Callable[[torch.Tensor], float],
    error: float,
    usual: float,
    floor: float,
) -> None:
    if path := os.environ.get(FIGURES):
        test = os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)")
        short = str(dtype).removeprefix("torch.")
        line = json.dumps([test, name, short, measure.__name__, error, usual, floor])
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def tied_for_best(usual: torch.Tensor, exact: torch.Tensor, chain: Chain) -> list[set[int]]:
    """Of logits [rows, vocabulary]: the tokens that rounding may put first in each row.

    `usual` are the plain way's logits, which show how much rounding there is.
    """
    roundoff = chain.roundoff(usual.dtype) * worst(exact)
    # The best and the one that is taken for it may both be off.
    apart = 2 * (WORST_MULTIPLE * worst(usual.double() - exact) + roundoff)
    first = exact >= exact.max(-1, keepdim=True).values - apart
    return [set(row.nonzero().flatten().tolist()) for row in first]


@torch.no_grad()
def assert_greedy(model: Any, exact: Any, prompt: Sequence[int], ids: Sequence[int]) -> None:
    """Every token of a reply is the likeliest behind the prompt and those before it, or tied."""
    row = torch.tensor([[*prompt, *ids[:-1]]])
    usual, truth = (each(input_ids=row).logits[0, len(prompt) - 1 :] for each in (model, exact))
    best = tied_for_best(usual, truth, chain_of(model))
    for place, (token, tied) in enumerate(zip(ids, best, strict=True)):
        assert token in tied, f"token {place} is {token}, and the likeliest are {tied}"

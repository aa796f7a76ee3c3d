"""Rotary position embedding in one function; transformers writes it in ten.

Written out, both halves are copied, negated, multiplied and added in passes of their own, and so
they are in the backward pass: a sixth of a scoring pass on an accelerator. Here a pass multiplies
and two of half the size add to it in place, with one rounding less.

A model whose angles `switch` (longrope: Phi-3.5-mini, Phi-4-mini) has a set of them for rows up to
that length, and another for longer ones. transformers takes one set for a whole pass, by the
largest position in it: no pass may have rows of both sides, nor read keys of the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from caft.protocols import CausalLM

_NAME = "apply_rotary_pos_emb"
Rotate = Callable[..., tuple[torch.Tensor, torch.Tensor]]


class _Rotated(torch.autograd.Function):
    """x cos + (-x_2, x_1) sin of queries and keys, x_1 and x_2 being halves of x."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """In: query and key [..., heads, tokens, size], cos and sin [..., 1, tokens, size]."""
        ctx.save_for_backward(cos, sin)
        return _rotate(query, cos, sin), _rotate(key, cos, sin)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """A rotation by the opposite angle; cos and sin get no gradients."""
        cos, sin = ctx.saved_tensors
        return *(_rotate(grad, cos, sin, back=True) for grad in grads), None, None


def _rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, back: bool = False
) -> torch.Tensor:
    rotated = x * cos
    first, second = rotated.chunk(2, dim=-1)
    x_first, x_second = x.chunk(2, dim=-1)
    sin_first, sin_second = sin.chunk(2, dim=-1)
    if back:
        sin_first, sin_second = sin_second, sin_first
    sign = -1 if back else 1
    first.addcmul_(x_second, sin_first, value=-sign)
    second.addcmul_(x_first, sin_second, value=sign)
    return rotated


def switch_of(model: CausalLM) -> int | None:
    """The longest row of the first set of angles; None if there is only one set."""
    return find_switch(model.config.to_dict())


def find_switch(config: Mapping[str, Any]) -> int | None:
    """The same, read off a model's config.json; of several, the first one."""
    text = config.get("text_config") or config
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    key = "original_max_position_embeddings"
    # A multimodal model may have one for each kind of layer.
    sets = [rope, *(each for each in rope.values() if isinstance(each, Mapping))]
    found = [text.get(key) or each.get(key) for each in sets if "long_factor" in each]
    return min((int(switch) for switch in found if switch), default=None)


@contextmanager
def fused_rotary(model: CausalLM) -> Iterator[None]:
    """In the body the layers of `model` rotate queries and keys in one function.

    Layers look the function up in the module that defines them; if that function does something
    else, it is not replaced.
    """
    module = _module_of(model)
    usual: Rotate | None = getattr(module, _NAME, None)
    if module is None or usual is None or not _is_plain(usual):
        yield
        return

    def rotate(
        q: torch.Tensor,
        k: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        unsqueeze_dim: int = 1,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if cos.shape[-1] != q.shape[-1] or not q.dtype == k.dtype == cos.dtype:
            return usual(q, k, cos, sin, unsqueeze_dim)
        fused: Rotate = _Rotated.apply
        return fused(q, k, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim))

    setattr(module, _NAME, rotate)
    try:
        yield
    finally:
        setattr(module, _NAME, usual)


def _module_of(model: CausalLM) -> ModuleType | None:
    layers = getattr(model.get_decoder(), "layers", None)
    attention = getattr(layers[0], "self_attn", None) if layers else None
    return sys.modules.get(type(attention).__module__)


@lru_cache
def _is_plain(usual: Rotate) -> bool:
    draw = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, 3, 8, generator=draw) for heads in (4, 2))
    cos, sin = torch.randn(2, 1, 3, 8, generator=draw)
    try:
        output = usual(query, key, cos, sin)
    except (TypeError, RuntimeError):  # other arguments, or angles of other shapes
        return False
    rotated = (_rotate(each, cos[:, None], sin[:, None]) for each in (query, key))
    return all(map(torch.allclose, output, rotated))

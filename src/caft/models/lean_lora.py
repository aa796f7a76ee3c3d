"""Low-rank adapters with as few products and copies as they need.

peft runs an adapter beside its layer: the result is scaled, added and, where adapters are float32
and the model is bfloat16, every activation is cast for it. Here layer and adapter are one
function: the adapter's product is accumulated into the layer's, in the layer's dtype, and no
gradient of the frozen weight is ever made. What peft can do beyond plain LoRA (DoRA, dropout,
several adapters) stays with peft.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class _LayerWithAdapter(torch.autograd.Function):
    """y = x W^T + bias + scaling (x A^T) B^T; gradients of x, A and B."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """In: x [..., inputs], weight [outputs, inputs], a [r, inputs], b [outputs, r]."""
        rows = x.reshape(-1, x.shape[-1])
        a_cast, b_cast = a.to(x.dtype), b.to(x.dtype)
        inner = (rows @ a_cast.T).mul_(scaling)
        out = linear(rows, weight, bias).addmm_(inner, b_cast.T)
        ctx.save_for_backward(rows, inner, weight, a_cast, b_cast)
        ctx.scaling, ctx.shape, ctx.dtypes = scaling, x.shape, (a.dtype, b.dtype)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The frozen weight and its bias get none."""
        rows, inner, weight, a, b = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_inner = (grad @ b).mul_(ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_inner, a).view(ctx.shape)
        grad_a, grad_b = grad_inner.T @ rows, grad.T @ inner
        return grad_x, None, None, grad_a.to(ctx.dtypes[0]), grad_b.to(ctx.dtypes[1]), None


def make_lora_lean(model: Any) -> None:
    """Let the plain LoRA layers of a peft model compute in one function; others stay as they are.

    Only how they compute changes: what they are called, hold and save stays peft's.
    """
    from peft.tuners.lora import Linear

    for layer in model.modules():
        if type(layer) is Linear and _is_plain(layer):
            layer.forward = MethodType(_forward, layer)


def is_lean(model: Any) -> bool:
    """Whether all adapter layers of `model` compute in the dtype of their weights by themselves."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    return bool(layers) and all("forward" in vars(layer) for layer in layers)


def _is_plain(layer: Any) -> bool:
    names = list(layer.lora_A)
    return (
        type(layer.base_layer) is torch.nn.Linear
        and layer.active_adapters == names
        and len(names) == 1
        and names[0] not in layer.lora_variant
        and isinstance(layer.lora_dropout[names[0]], torch.nn.Identity)
        and layer.lora_B[names[0]].bias is None
        and not layer.base_layer.weight.requires_grad
    )


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if layer.disable_adapters or layer.merged or args or kwargs:
        plain: torch.Tensor = type(layer).forward(layer, x, *args, **kwargs)
        return plain
    name = layer.active_adapters[0]
    base = layer.base_layer
    layer_with_adapter: Any = _LayerWithAdapter
    out: torch.Tensor = layer_with_adapter.apply(
        x,
        base.weight,
        base.bias,
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.scaling[name],
    )
    return out

"""silu(gate) * up in one function, where a model is trained on CUDA.

torch makes eleven passes over the widest activations of a layer for it, forward and backward, and
keeps a third copy of them; the kernels of triton_kernels.py make eight, and keep two.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from caft.kernels.own_kernels import own_kernels
from caft.protocols import CausalLM

_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


class _SwiGLU(torch.autograd.Function):
    """y = silu(gate) * up; gradients of both."""

    @staticmethod
    def forward(
        ctx: Any, gate: torch.Tensor, up: torch.Tensor, kernels: ModuleType
    ) -> torch.Tensor:
        """Of any shape, both the same."""
        ctx.save_for_backward(gate, up)
        ctx.kernels = kernels
        multiplied: torch.Tensor = kernels.multiply_silu(gate, up)
        return multiplied

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """With s the sigmoid of gate: grad up s (1 + gate (1 - s)), and grad gate s."""
        return *ctx.kernels.silu_gradients(grad.contiguous(), *ctx.saved_tensors), None


def fuse_swiglu(model: CausalLM | torch.nn.Module) -> None:
    """Let the MLPs of `model` that are plain compute their product in one function.

    They are known by the names of their parts and by their output; others stay as they are.
    """
    plain: dict[type, bool] = {}
    for mlp in model.modules():
        kind = type(mlp)
        if not all(hasattr(mlp, name) for name in _PARTS):
            continue
        if kind not in plain:
            plain[kind] = _is_plain(mlp)
        if plain[kind]:
            vars(mlp)["forward"] = _Fused(mlp)


@torch.no_grad()
def _is_plain(mlp: Any) -> bool:
    weight = getattr(mlp.gate_proj, "weight", None)
    if type(mlp.gate_proj) is not torch.nn.Linear or weight is None or weight.is_meta:
        return False
    size = weight.shape[1]
    x = torch.linspace(-1, 2, 2 * size, device=weight.device).view(1, 2, size).to(weight.dtype)
    try:
        output = mlp(x)
    except TypeError:
        return False
    expected = mlp.down_proj(silu(mlp.gate_proj(x)) * mlp.up_proj(x))
    return isinstance(output, torch.Tensor) and torch.equal(output, expected)


class _Fused:
    """The `forward` of a plain MLP; a method that is bound to it could not be pickled."""

    def __init__(self, mlp: Any) -> None:
        self.mlp = mlp

    def __call__(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        mlp, kernels = self.mlp, own_kernels(x)
        if kernels is None or args or kwargs or not torch.is_grad_enabled():
            usual: Callable[..., torch.Tensor] = type(mlp).forward
            return usual(mlp, x, *args, **kwargs)
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        fused: Callable[..., torch.Tensor] = _SwiGLU.apply
        down: torch.Tensor = mlp.down_proj(fused(gate.contiguous(), up.contiguous(), kernels))
        return down

"""silu(gate) * up in one function, where a model is trained on CUDA.

torch makes fourteen passes over the widest activations of a layer for it, forward and backward, and
keeps a third copy of them; the kernels here make eight, and keep two. CUDA's runtime compiler makes
them, in a fifth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from caft.kernels.forwards import replace_forwards
from caft.protocols import CausalLM

# Beyond any limit, and not so large that products overflow in float16.
_LARGE = 64
_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")
_MULTIPLY = """
template <typename T> T caft_silu_times_up(T gate, T up) {
    float g = gate;
    return g / (1.0f + expf(-g)) * (float)up;
}"""
_DIFFERENTIATE = """
template <typename T> void caft_silu_gradients(T grad, T gate, T up, T& to_gate, T& to_up) {
    float d = grad, g = gate, s = 1.0f / (1.0f + expf(-g));
    to_gate = d * (float)up * s * (1.0f + g * (1.0f - s));
    to_up = d * g * s;
}"""
Kernels = tuple[Callable[..., torch.Tensor], Callable[..., tuple[torch.Tensor, torch.Tensor]]]


def kernels_for(x: torch.Tensor) -> Kernels | None:
    """silu(gate) * up, and the gradients of both; None where `x` is on no CUDA device."""
    return _compile(x.device) if x.is_cuda else None


@cache
def _compile(device: torch.device) -> Kernels | None:
    from torch.cuda import jiterator

    multiply = jiterator._create_jit_fn(_MULTIPLY)
    differentiate = jiterator._create_multi_output_jit_fn(_DIFFERENTIATE, num_outputs=2)
    one = torch.ones(8, device=device, dtype=torch.bfloat16)
    try:
        differentiate(one, one, multiply(one, one))
    except RuntimeError:  # a driver without its compiler
        return None
    return multiply, differentiate


class _SwiGLU(torch.autograd.Function):
    """y = silu(gate) * up; gradients of both."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, kernels: Kernels) -> torch.Tensor:
        """Of any shape, both the same."""
        ctx.save_for_backward(gate, up)
        multiply, ctx.differentiate = kernels
        return multiply(gate, up)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """With s the sigmoid of gate: grad up s (1 + gate (1 - s)), and grad gate s."""
        return *ctx.differentiate(grad, *ctx.saved_tensors), None


def fuse_swiglu(model: CausalLM | torch.nn.Module) -> None:
    """Let the MLPs of `model` that are plain compute their product in one function.

    They are known by the names of their parts and by their output; others stay as they are.
    """
    replace_forwards(model, _has_parts, _is_plain, _Fused)


def _has_parts(mlp: torch.nn.Module) -> bool:
    return all(hasattr(mlp, name) for name in _PARTS)


@torch.no_grad()
def _is_plain(mlp: Any) -> bool:
    weight = getattr(mlp.gate_proj, "weight", None)
    if type(mlp.gate_proj) is not torch.nn.Linear or weight is None or weight.is_meta:
        return False
    size = weight.shape[1]
    x = torch.linspace(-1, 2, 2 * size, device=weight.device).view(1, 2, size).to(weight.dtype)
    return all(_computes_as_written(mlp, each) for each in (x, make_large(mlp, x)))


def make_large(mlp: Any, x: torch.Tensor) -> torch.Tensor:
    """`x`, made so large that gates meet the limits that some MLPs have (10 in DeepSeek 4)."""
    large: torch.Tensor = x * (_LARGE / mlp.gate_proj(x).abs().max())
    return large


def _computes_as_written(mlp: Any, x: torch.Tensor) -> bool:
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
        mlp, kernels = self.mlp, kernels_for(x)
        if kernels is None or args or kwargs or not torch.is_grad_enabled():
            usual: Callable[..., torch.Tensor] = type(mlp).forward
            return usual(mlp, x, *args, **kwargs)
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        fused: Callable[..., torch.Tensor] = _SwiGLU.apply
        down: torch.Tensor = mlp.down_proj(fused(gate, up, kernels))
        return down

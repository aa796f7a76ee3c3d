"""RMSNorm in one function; transformers writes it as a sequence of small ones.

On CUDA torch has a kernel for it, which reads and writes every activation once. On a CPU each small
function writes a temporary that the next one reads once; here they work in place, and the backward
pass needs no more than the input and a number a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import rms_norm

from caft.kernels.forwards import replace_forwards
from caft.protocols import CausalLM


class _Norm(torch.autograd.Function):
    """y = w x / rms(x), with x / rms(x) in float32; gradients of x and w."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """In: x [..., size], weight [size]."""
        wide = x.to(torch.float32, copy=True)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """With n = x s, s = 1 / rms(x): dx = s (g w - n mean(g w n)) and dw = sum g n."""
        x, weight, scale = ctx.saved_tensors
        wide = x.to(torch.float32, copy=True)
        inner = (grad * weight).float()
        share = (inner * wide).mean(-1, keepdim=True).mul_(scale.square())
        grad_x = inner.addcmul_(wide, share, value=-1).mul_(scale).to(x.dtype)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad * wide.mul_(scale)).flatten(0, -2).sum(0).to(weight.dtype)
        return grad_x, grad_weight, None


def fuse_rms_norms(model: CausalLM | torch.nn.Module) -> None:
    """Let the RMSNorm layers of `model` compute in one function; others stay as they are.

    They are known by their name and by their output: some scale by 1 + w, or have a gate.
    """
    replace_forwards(model, _has_form, _is_plain, _Fused)


def _has_form(norm: torch.nn.Module) -> bool:
    # Gemma's norms of values have the class of others, but no weight.
    named = type(norm).__name__.endswith("RMSNorm")
    return named and getattr(norm, "weight", None) is not None and _epsilon(norm) is not None


def _epsilon(norm: torch.nn.Module) -> float | None:
    epsilon: float | None = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    return epsilon


@torch.no_grad()
def _is_plain(norm: Any) -> bool:
    weight, epsilon = norm.weight, _epsilon(norm)
    if weight.dim() != 1 or weight.is_meta:
        return False
    x = torch.linspace(-1, 2, 2 * len(weight), device=weight.device).view(2, -1).to(weight.dtype)
    try:
        output = norm(x)
    except TypeError:
        return False
    rounding = 4 * torch.finfo(weight.dtype).eps
    expected = rms_norm(x.float(), (len(weight),), weight.float(), epsilon)
    return torch.allclose(output.float(), expected, rtol=rounding, atol=rounding)


class _Fused:
    """The `forward` of a plain RMSNorm; a method that is bound to it could not be pickled."""

    def __init__(self, norm: torch.nn.Module) -> None:
        self.norm = norm

    def __call__(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        norm, weight = self.norm, self.norm.weight
        assert isinstance(weight, torch.Tensor)
        if args or kwargs or x.dtype != weight.dtype or torch.is_autocast_enabled(x.device.type):
            usual: Callable[..., torch.Tensor] = type(norm).forward
            return usual(norm, x, *args, **kwargs)
        if x.is_cuda:
            return rms_norm(x, weight.shape, weight, _epsilon(norm))
        fused: Callable[..., torch.Tensor] = _Norm.apply
        return fused(x, weight, _epsilon(norm))

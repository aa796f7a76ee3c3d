"""Kernels for CUDA in Triton, for what torch computes in several passes over memory.

Only imported on CUDA (own_kernels.py). All of them compute in float32 and round once, as torch's
own elementwise functions do; silu is rounded before it is multiplied, as torch rounds it.
"""
# mypy: disable-error-code="misc, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK = 4096


@triton.jit
def _multiply(gate_at, up_at, out_at, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    gate = tl.load(gate_at + at, mask=inside).to(tl.float32)
    up = tl.load(up_at + at, mask=inside).to(tl.float32)
    silu = (gate * tl.sigmoid(gate)).to(out_at.dtype.element_ty).to(tl.float32)
    tl.store(out_at + at, (silu * up).to(out_at.dtype.element_ty), mask=inside)


@triton.jit
def _differentiate(grad_at, gate_at, up_at, to_gate_at, to_up_at, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    grad = tl.load(grad_at + at, mask=inside).to(tl.float32)
    gate = tl.load(gate_at + at, mask=inside).to(tl.float32)
    up = tl.load(up_at + at, mask=inside).to(tl.float32)
    s = tl.sigmoid(gate)
    to_gate = grad * up * s * (1 + gate * (1 - s))
    tl.store(to_gate_at + at, to_gate.to(to_gate_at.dtype.element_ty), mask=inside)
    tl.store(to_up_at + at, (grad * gate * s).to(to_up_at.dtype.element_ty), mask=inside)


@triton.jit
def _rotate(
    x_at,
    cos_at,
    sin_at,
    out_at,
    heads,
    half,
    head_step,
    token_step,
    angle_step,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BACK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS)[:, None]
    at = tl.arange(0, HALF)[None, :]
    cos_at += token * angle_step + at
    sin_at += token * angle_step + at
    cos_1 = tl.load(cos_at, mask=at < half).to(tl.float32)
    cos_2 = tl.load(cos_at + half, mask=at < half).to(tl.float32)
    sin_1 = tl.load(sin_at, mask=at < half).to(tl.float32)
    sin_2 = tl.load(sin_at + half, mask=at < half).to(tl.float32)
    inside = (head < heads) & (at < half)
    x_at += token * token_step + head * head_step + at
    x_1 = tl.load(x_at, mask=inside).to(tl.float32)
    x_2 = tl.load(x_at + half, mask=inside).to(tl.float32)
    if BACK:
        y_1 = x_1 * cos_1 + x_2 * sin_2
        y_2 = x_2 * cos_2 - x_1 * sin_1
    else:
        y_1 = x_1 * cos_1 - x_2 * sin_1
        y_2 = x_2 * cos_2 + x_1 * sin_2
    out_at += (token * heads + head) * 2 * half + at
    tl.store(out_at, y_1.to(out_at.dtype.element_ty), mask=inside)
    tl.store(out_at + half, y_2.to(out_at.dtype.element_ty), mask=inside)


def multiply_silu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up; both contiguous, of one shape."""
    out = torch.empty_like(gate)
    blocks = triton.cdiv(gate.numel(), _BLOCK)
    _multiply[(blocks,)](gate, up, out, gate.numel(), _BLOCK, num_warps=8)
    return out


def silu_gradients(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate and up from that of silu(gate) * up, all contiguous."""
    to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
    blocks = triton.cdiv(gate.numel(), _BLOCK)
    _differentiate[(blocks,)](grad, gate, up, to_gate, to_up, gate.numel(), _BLOCK, num_warps=8)
    return to_gate, to_up


def rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, back: bool = False
) -> torch.Tensor:
    """x [1, heads, tokens, size] by the angles [1, 1, tokens, size], whose last dimension is dense.

    Out: the same shape; in memory, heads of a token are neighbours.
    """
    _, heads, tokens, size = x.shape
    if x.stride(3) != 1:
        x = x.contiguous()
    out = torch.empty(1, tokens, heads, size, dtype=x.dtype, device=x.device)
    _rotate[(tokens,)](
        x,
        cos,
        sin,
        out,
        heads,
        size // 2,
        x.stride(1),
        x.stride(2),
        cos.stride(2),
        HEADS=triton.next_power_of_2(heads),
        HALF=triton.next_power_of_2(size // 2),
        BACK=back,
        num_warps=4,
    )
    return out.transpose(1, 2)

"""Whether the kernels of triton_kernels.py can run where a tensor is."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch


def own_kernels(x: torch.Tensor) -> ModuleType | None:
    """The module of kernels; None where they do not run, such as on a CPU."""
    return _find(x.device) if x.is_cuda else None


@cache
def _find(device: torch.device) -> ModuleType | None:
    try:
        from caft.kernels import triton_kernels

        one = torch.ones(1, device=device, dtype=torch.bfloat16)
        triton_kernels.multiply_silu(one, one)
    except Exception:  # no Triton, no C compiler, a device that it does not know
        return None
    return triton_kernels

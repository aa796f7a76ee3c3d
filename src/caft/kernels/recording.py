"""CUDA graphs, recorded so that torch is as it was before where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE


@contextmanager
def recorded(graph: torch.cuda.CUDAGraph, pool: _POOL_HANDLE | None = None) -> Iterator[None]:
    """Record what the body launches, with memory of `pool`.

    RuntimeError where something in it must wait for the device. torch (2.11) then leaves its own
    stream set and the device's generator in the middle of a recording, so that the next draw fails.
    """
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool):
            yield
    except BaseException:
        torch.cuda.set_stream(stream)
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.zeros(1, device="cuda")
        raise

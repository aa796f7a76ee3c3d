"""The race in one kernel draws what the written-out one draws, however a row is divided.

Without a CUDA device it runs in Triton's interpreter (TRITON_INTERPRET=1), if it is installed.
"""

from __future__ import annotations

import pytest
import torch

from caft.models.sampling import _STEP, Draw, _hash_draws, gumbel_noise
from triton_device import find_triton_device

pytestmark = pytest.mark.numerics
DEVICE = find_triton_device()


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("size", [50, 4096, 20_011])
@pytest.mark.parametrize("hidden", [0.0, 0.9])
def test_the_kernel_draws_what_torch_draws(rows: int, size: int, hidden: float) -> None:
    from caft.kernels.drawing import run_race

    draw = torch.Generator().manual_seed(rows + size)
    scores = 2 * torch.randn(rows, size, generator=draw)
    scores[torch.rand(rows, size, generator=draw) < hidden] = -torch.inf
    keys = _hash_draws(3, [Draw("q", n, 0) for n in range(rows)])
    expected = (scores * 0.7 + gumbel_noise(keys, size)).argmax(dim=-1)
    drawn = run_race(scores.to(DEVICE), 0.7, keys.to(DEVICE), _STEP).cpu()
    # Logarithms round differently there: a near tie may fall the other way.
    assert int((drawn != expected).sum()) <= (DEVICE.type == "cuda")

"""Where Triton's kernels run in tests: on a CUDA device, or in its interpreter on a CPU."""

from __future__ import annotations

import os

import pytest
import torch


def find_triton_device() -> torch.device:
    """At a module's top: the module is skipped, with the reason, where there is neither."""
    pytest.importorskip("triton", reason="Triton is not installed")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here, and Triton's interpreter is off", allow_module_level=True)
    return torch.device("cuda")

"""What a benchmark ran on: rates mean nothing without it."""

from __future__ import annotations

import os
from pathlib import Path

FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")


def describe_processor(device: str = "cpu") -> dict[str, str]:
    """The processor's features, what torch uses of them, its threads, and the accelerator.

    Also printed, as one line. The features are "unknown" where the system has no /proc/cpuinfo.
    """
    import torch

    described = {
        "features": " ".join(_read_features()) or "unknown",
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    if device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability(device)
        described["device"] = torch.cuda.get_device_name(device)
        described["compute_capability"] = f"{major}.{minor}"
    print("; ".join(f"{name}: {value}" for name, value in described.items()), flush=True)
    return described


def _read_features() -> list[str]:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [feature for feature in FEATURES if feature in flags]

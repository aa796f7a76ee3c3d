"""Memory of long-running passes: kept if it is used again, else returned to the system."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from caft.errors import UserError

if TYPE_CHECKING:
    import torch

_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
)
# oneDNN's own, and the one that torch puts before it.
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_KERNELS_KEPT = "96"
# glibc's malloc.h; 32 MB is the largest threshold that it takes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT_BLOCK, _MOST_KEPT = 32 << 20, 64 << 20


def settle_cpu_memory() -> None:
    """How work on a CPU uses memory, for this process and those that it starts.

    By default the C library returns every block of megabytes to the system, which clears it page by
    page when the next layer needs one: a fifth of the time of a pass of 2,000 tokens in bfloat16.
    Here it keeps some; `release_memory` still returns everything. torch also creates a kernel for
    every shape of a product and keeps 1,024 of them, twice over, at a third of a megabyte each:
    packs always have new shapes, and repeat only those of one pass.
    """
    for kernels in _KERNEL_CACHES:
        os.environ.setdefault(kernels, _KERNELS_KEPT)  # read with the first product
    with suppress(OSError, AttributeError):  # a C library without these settings
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


@cache
def spare_imports() -> None:
    """Leave what is in memory now out of all later collections. Before the first model loads.

    Half a million objects of torch and transformers stay to the end, and looking at all of them is
    what `release_memory` would take its time for: a third of a second each time.
    """
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Give back what earlier stages left, so that their peaks do not add up.

    Lightning leaves reference cycles, and the C library keeps freed memory: more than a gigabyte
    after a tuning stage with rows of many lengths.
    """
    gc.collect()
    return_freed_memory()


def return_freed_memory() -> None:
    """To the system, what this process has freed and the C library keeps for it."""
    with suppress(OSError, AttributeError):  # a C library that cannot trim
        ctypes.CDLL(None).malloc_trim(0)


def return_device_memory() -> None:
    """To the driver, what torch keeps of a CUDA device and does not use; after `release_memory`."""
    import torch

    torch.cuda.empty_cache()


def free_device_memory(device: torch.device) -> int:
    """Bytes that are free on a CUDA device, with those that torch holds and does not use."""
    import torch

    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; CUDA, MPS and the CPU each have their own message for it."""
    text = f"{type(error).__name__} {error}".lower()
    return "outofmemory" in text or any(words in text for words in _MEMORY_WORDS)


@contextmanager
def memory_may_end(explain: Callable[[], str]) -> Iterator[None]:
    """UserError with the text of `explain` if memory runs out in the body. Other errors pass."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(explain()) from error


def compiles_kernels(device: str) -> bool:
    """Whether `device` runs kernels that are compiled here (Triton)."""
    return device.startswith("cuda") and find_spec("triton") is not None


def multiplies_bfloat16(device: str) -> bool:
    """Whether `device` has units for it; emulated it is slower than float32 and less exact."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False

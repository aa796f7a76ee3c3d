"""The cache that replies are written with, and how many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from caft.kernels.kv_cache import ReplyCache, SharedPrefix
from caft.kernels.memory import compiles_kernels, free_device_memory
from caft.kernels.packed_attention import runs_alone
from caft.kernels.packing import compute_prefix
from caft.kernels.row_cache import RowCache
from caft.protocols import CausalLM

# Own tokens of all replies that a CPU writes at once, half of the cap counted: half as many again
# wrote long prompts' replies about a tenth faster and took 40% more memory.
_MOST_CACHED = 8192
# On CUDA: the tokens that a reply first has room for, and the share of free memory for all of them.
_FIRST_ROOM = 512
_SHARE_CACHED = 0.5


def make_cache(
    model: CausalLM, prefix: SharedPrefix | None, expected: Sequence[int], most_tokens: int
) -> ReplyCache | RowCache:
    """Of as many rows as memory is for.

    `expected` are the lengths of the first prompts by row, the longest first, without the prefix
    that all of them share; `most_tokens` is the longest reply.
    """
    device = model.device
    if runs_alone(model) or not compiles_kernels(device.type):
        if device.type == "cpu":
            expected = _fitting(expected, most_tokens // 2, _MOST_CACHED)
        return ReplyCache(prefix or SharedPrefix(), expected, device)
    # A token's keys and values in all layers.
    one = prefix or compute_prefix(model, [0], device)
    size = sum(part.nbytes for of in (one.keys, one.values) for part in of.values())
    columns = _SHARE_CACHED * free_device_memory(device) * one.length / size
    room = min(most_tokens, _FIRST_ROOM)
    expected = _fitting(expected, room, int(columns))
    return RowCache(prefix or SharedPrefix(), expected, room, device)


def _fitting(lengths: Sequence[int], room: int, most: int) -> list[int]:
    """As many of these own lengths of prompts, at least one, as fit with their room for replies."""
    totals = accumulate(length + room for length in lengths)
    return [length for length, total in zip(lengths, totals, strict=True) if total <= most] or [
        *lengths[:1]
    ]

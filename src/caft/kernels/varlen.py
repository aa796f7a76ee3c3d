"""Causal attention of all rows of a pack in one call, on CUDA.

`scaled_dot_product_attention` needs rows of one length: a call for every length is a hundred
launches a layer, and the device waits for the next one most of the time. torch's kernel for
sequences of variable length (from 2.11 on, bfloat16, Ampere or newer) takes packed rows directly.
The prefix that a row reads is placed before its own tokens, in a copy of the keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from inspect import signature
from itertools import chain

import torch

from caft.kernels.attention import Heads

# Keys that are copied at a time, for rows that read others before their own: 134 MB each of keys
# and values where 8 heads of 128 numbers are shared, as Llama and Qwen do. With gradients all of
# them would be kept, but no trained row reads others.
_MOST_COPIED = 2**16
_LARGEST_HEAD = 256
# The tokens that a row reads before its own, which may be none, and its own.
Row = tuple[range, range]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows that are attended in one call, of `tokens` tokens.

    `queries` and `keys` [rows + 1] are the start of every row, and the end of the last one.
    `sources` [keys] are the tokens that keys come from, of the prefix and then of the pack; None
    if every row reads itself and nothing else.
    """

    tokens: int
    queries: torch.Tensor
    keys: torch.Tensor
    most_queries: int
    most_keys: int
    sources: torch.Tensor | None


def plan_sequences(
    rows: Sequence[Row], prefix: int, device: torch.device, longest: int = 0
) -> tuple[Sequences, ...]:
    """Calls for `rows`, whose own tokens are end to end; as if one of them had `longest` tokens."""
    copies = prefix > 0 or any(before for before, _ in rows)
    parts = _parts(rows, prefix) if copies else [rows]
    return tuple(_plan(part, prefix, device, longest, copies=copies) for part in parts)


def _parts(rows: Sequence[Row], prefix: int) -> Iterator[list[Row]]:
    part: list[Row] = []
    copied = 0
    for before, own in rows:
        keys = prefix + len(before) + len(own)
        if part and copied + keys > _MOST_COPIED:
            yield part
            part, copied = [], 0
        part.append((before, own))
        copied += keys
    yield part


def _plan(
    rows: Sequence[Row], prefix: int, device: torch.device, longest: int, *, copies: bool
) -> Sequences:
    queries = [len(own) for _, own in rows]
    keys = [prefix + len(before) + len(own) for before, own in rows]
    query_starts, key_starts = (
        torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32).to(device)
        for lengths in (queries, keys)
    )
    sources = None
    if copies:
        # The pack's own tokens come after those of the prefix.
        places = ((*range(-prefix, 0), *before, *own) for before, own in rows)
        sources = (torch.tensor(list(chain.from_iterable(places))) + prefix).to(device)
    longest_queries, longest_keys = max(longest, *queries), max(longest, *keys)
    return Sequences(sum(queries), query_starts, key_starts, longest_queries, longest_keys, sources)


def can_attend_at_once(query: torch.Tensor) -> bool:
    """Whether there is a kernel that takes such queries, [..., size]."""
    size = query.shape[-1]
    fits = query.dtype == torch.bfloat16 and size <= _LARGEST_HEAD and size % 8 == 0
    return fits and _has_kernel(query.device)


@lru_cache
def _has_kernel(device: torch.device) -> bool:
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and "window_size" in _parameters()
    )


@lru_cache
def _parameters() -> frozenset[str]:
    """The kernel's parameters; none where torch has no such kernel."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(signature(varlen_attn).parameters)


def attend_at_once(
    tokens: Heads, sequences: Sequence[Sequences], *, scaling: float, window: int | None
) -> torch.Tensor:
    """Every query sees its row up to itself, `window` tokens of it at most.

    Keys and values are those of the prefix, then of the pack. Out: [tokens, heads, size].
    """
    from torch.nn.attention.varlen import varlen_attn

    attend = partial(
        varlen_attn, scale=scaling, window_size=(-1 if window is None else window - 1, 0)
    )
    if "enable_gqa" in _parameters():  # 2.11 has no such parameter and always does it
        attend = partial(attend, enable_gqa=tokens[0].shape[0] != tokens[1].shape[0])
    query, key, value = (part.transpose(0, 1) for part in tokens)
    in_parts = len(sequences) > 1
    queries = torch.split(query, [part.tokens for part in sequences]) if in_parts else (query,)
    outputs = []
    for part, own in zip(sequences, queries, strict=True):
        # Rows that read nothing but themselves are one part.
        keys, values = (
            each if part.sources is None else each.index_select(0, part.sources)
            for each in (key, value)
        )
        places = part.queries, part.keys, part.most_queries, part.most_keys
        output = attend(own, keys, values, *places)
        assert isinstance(output, torch.Tensor)  # further results were not requested
        outputs.append(output)
    return torch.cat(outputs) if in_parts else outputs[0]

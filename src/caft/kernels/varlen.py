"""Causal attention of all rows of a pack in one call, on CUDA.

`scaled_dot_product_attention` wants rows of one length: a call for every length is a hundred
launches a layer, and the device waits for the next one most of the time. torch's kernel for
sequences of variable length (from 2.11 on, bfloat16, Ampere or newer) takes them as they lie.
What a row reads before its own tokens is laid before them in a copy of the keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch

# Keys that are copied at a time, for rows that read others before their own: 134 MB each of keys
# and values where 8 heads of 128 numbers are shared, as Llama and Qwen do. With gradients all of
# them would be kept, but no trained row reads others.
_MOST_COPIED = 2**16
_LARGEST_HEAD = 256


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows that are attended in one call, of `tokens` tokens.

    `asked` and `read` [rows + 1] say where the queries and keys of every row start, and where the
    last one ends. `sources` [keys] says which token every key is, of the prefix and then of the
    pack; None where every row reads itself and nothing else.
    """

    tokens: int
    asked: torch.Tensor
    read: torch.Tensor
    most_asked: int
    most_read: int
    sources: torch.Tensor | None


def plan_sequences(
    rows: Sequence[tuple[range, range]], prefix: int, device: torch.device
) -> tuple[Sequences, ...]:
    """Rows by their stem's tokens, which may be none, and their own; these lie end to end."""
    copies = prefix > 0 or any(stem for stem, _ in rows)
    parts = _parts(rows, prefix) if copies else [rows]
    return tuple(_plan(part, prefix, device, copies=copies) for part in parts)


def _parts(rows: Sequence[tuple[range, range]], prefix: int) -> Iterator[list[tuple[range, range]]]:
    part: list[tuple[range, range]] = []
    copied = 0
    for stem, own in rows:
        keys = prefix + len(stem) + len(own)
        if part and copied + keys > _MOST_COPIED:
            yield part
            part, copied = [], 0
        part.append((stem, own))
        copied += keys
    yield part


def _plan(
    rows: Sequence[tuple[range, range]], prefix: int, device: torch.device, *, copies: bool
) -> Sequences:
    asked = [len(own) for _, own in rows]
    read = [prefix + len(stem) + len(own) for stem, own in rows]
    sources = None
    if copies:
        before = list(range(prefix))
        sources = torch.tensor(
            [
                token
                for stem, own in rows
                for token in (*before, *(prefix + at for place in (stem, own) for at in place))
            ]
        ).to(device)
    return Sequences(
        tokens=sum(asked),
        asked=_starts(asked, device),
        read=_starts(read, device),
        most_asked=max(asked),
        most_read=max(read),
        sources=sources,
    )


def _starts(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32).to(device)


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
        and "window_size" in _dials()
    )


@lru_cache
def _dials() -> frozenset[str]:
    """What the kernel can be told; nothing where torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(signature(varlen_attn).parameters)


def attend_at_once(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sequences: Sequence[Sequences],
    *,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """In: query [heads, tokens, size]; key and value [kv_heads, prefix and tokens, size].

    Every query sees its row up to itself, `window` tokens of it at most. Out: [tokens, heads,
    size].
    """
    from torch.nn.attention.varlen import varlen_attn

    told: dict[str, Any] = {
        "scale": scaling,
        "window_size": (-1 if window is None else window - 1, 0),
    }
    if "enable_gqa" in _dials():  # later versions want to be asked, 2.11 just does it
        told["enable_gqa"] = query.shape[0] != key.shape[0]
    query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    attend: Any = varlen_attn  # it may return more than one, when asked to
    parted = len(sequences) > 1
    queries = torch.split(query, [part.tokens for part in sequences]) if parted else (query,)
    said = []
    for part, own in zip(sequences, queries, strict=True):
        # Rows that read nothing but themselves are never parted.
        keys, values = (
            each if part.sources is None else each.index_select(0, part.sources)
            for each in (key, value)
        )
        said.append(
            attend(
                own,
                keys,
                values,
                part.asked,
                part.read,
                part.most_asked,
                part.most_read,
                **told,
            )
        )
    return torch.cat(said) if parted else said[0]

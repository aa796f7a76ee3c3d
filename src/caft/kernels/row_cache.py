"""Keys and values of replies that are being written on CUDA; every shape stays as it is.

Each row has a part of one long tensor to itself. Prompts come in order of length, so that a later
one fits where the first of its row did. A step reads no more than what its rows have written
(kernels/decoding.py), and nothing is copied until a reply outgrows its part: then all parts get
twice the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from caft.kernels.kv_cache import SharedPrefix

if TYPE_CHECKING:
    from caft.kernels.attention import Extras

# The smallest side of a product of the matrix units.
_FEWEST = 16


@dataclass(frozen=True, slots=True)
class JoiningRows:
    """Prompts that join a cache: which tokens of a pack go to which of its columns.

    `first` is given the keys and values of the pack's first prompt, for rows that join later.
    """

    cache: RowCache
    tokens: torch.Tensor
    columns: torch.Tensor
    first: SharedPrefix | None = None

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take in one layer of the packed prompts: [1, heads, tokens, size]."""
        for stored, part in zip(self.cache.make(layer, key, value), (key, value), strict=True):
            stored.index_copy_(1, self.columns, part[0].index_select(1, self.tokens))
        if self.first is not None:
            self.first.keep_start(layer, key, value)


class RowCache:
    """The rows' own keys and values, [heads, columns, size] by layer.

    `lengths` counts every row's own tokens so far, after the prefix; 0 is a free row. `expected`
    are the lengths of the first prompts by row, the longest first, and `room` the tokens that a
    reply may have before its part must grow. `version` changes with the shapes.
    """

    def __init__(
        self, prefix: SharedPrefix, expected: Sequence[int], room: int, device: torch.device
    ) -> None:
        self.prefix, self.device, self.room = prefix, device, room
        self.lengths = [0] * len(expected)
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.version = 0
        self._shared: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._place([length + room for length in expected])

    def _place(self, widths: Sequence[int]) -> None:
        """Give every row a part of this width."""
        self.widths = list(widths)
        *self.starts, self.columns = accumulate(widths, initial=0)
        self._note_starts()

    def _note_starts(self) -> None:
        self._starts = torch.tensor(self.starts, device=self.device)
        self._lengths = torch.zeros_like(self._starts)
        self.version += 1

    @property
    def positions(self) -> torch.Tensor:
        """The position of every row's next token, [rows]; valid from `begin_step` on."""
        return self._lengths + self.prefix.length

    def admit(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> JoiningRows:
        """Make room for prompts, in the order of a pack; each is written to all of its free rows.

        Their keys and values follow layer by layer.
        """
        tokens, columns, start = [], [], 0
        for length, copies in zip(lengths, rows, strict=True):
            for row in copies:
                assert not self.lengths[row]
                self.lengths[row] = length
                tokens.append(torch.arange(start, start + length))
                columns.append(torch.arange(self.starts[row], self.starts[row] + length))
            start += length
        of_pack, of_cache = (torch.cat(each).to(self.device) for each in (tokens, columns))
        return JoiningRows(self, of_pack, of_cache)

    def make(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's tensors, for heads like these: [1, heads, tokens, size]."""
        if layer not in self.keys:
            for tensors, part in ((self.keys, key), (self.values, value)):
                _, heads, _, size = part.shape
                tensors[layer] = part.new_zeros(heads, self.columns, size)
            if self.prefix.length:
                shared = self.prefix.keys[layer][0], self.prefix.values[layer][0]
                self._shared[layer] = shared[0].contiguous(), shared[1].contiguous()
        return self.keys[layer], self.values[layer]

    def free(self, row: int) -> None:
        """The row's reply has ended."""
        self.lengths[row] = 0

    def begin_step(self) -> None:
        """Before one token of every row is run; not a part of what a graph repeats."""
        if any(length >= width for length, width in zip(self.lengths, self.widths, strict=True)):
            self._grow()
        lengths = torch.tensor(self.lengths)
        if self.device.type == "cuda":
            lengths = lengths.pin_memory()
        self._lengths.copy_(lengths, non_blocking=True)

    def _grow(self) -> None:
        """Twice the room for every reply."""
        before = self._used_columns()
        self._place([width + self.room for width in self.widths])
        self.room *= 2
        after = self._used_columns()
        for tensors in (self.keys, self.values):
            for layer, old in tensors.items():
                new = old.new_zeros(old.shape[0], self.columns, old.shape[2])
                tensors[layer] = new.index_copy_(1, after, old.index_select(1, before))

    def _used_columns(self) -> torch.Tensor:
        used = zip(self.starts, self.lengths, strict=True)
        ranges = [torch.arange(start, start + length) for start, length in used]
        return torch.cat(ranges).to(self.device)

    def end_step(self) -> None:
        """After it: the rows in use are one token longer."""
        self.lengths = [length + 1 if length else 0 for length in self.lengths]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows only; in ascending order."""
        self.starts, self.widths, self.lengths = (
            [each[row] for row in rows] for each in (self.starts, self.widths, self.lengths)
        )
        self._note_starts()

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        sliding_window: int | None,
        extras: Extras | None = None,
    ) -> torch.Tensor:
        """Every row's new token looks back over its row.

        In: [1, heads, rows, size]. Out: [1, rows, heads, size].
        """
        import triton

        from caft.kernels.decoding import BLOCK, SHARED_QUERIES, attend_rows, attend_shared

        asked, keys, values = (
            part if part.stride(-1) == 1 else part.contiguous()
            for part in (each[0].transpose(0, 1) for each in (query, key, value))
        )
        rows, queries, size = asked.shape
        heads = keys.shape[1]
        group, wide = queries // heads, max(_FEWEST, triton.next_power_of_2(size))
        softcap = extras.softcap if extras else None
        sinks = extras.sinks if extras else None
        stored = self.keys[layer], self.values[layer]
        shared = self._shared.get(layer, stored)  # without a prefix never read
        prefix = self.prefix.length
        merged = prefix > 0 and sliding_window is None
        partial, logarithm = asked, asked  # never read
        if merged:
            partial = asked.new_empty(heads, rows * group, size, dtype=torch.float32)
            logarithm = asked.new_empty(heads, rows * group, dtype=torch.float32)
            attend_shared[(triton.cdiv(rows * group, SHARED_QUERIES), heads)](
                asked, *shared, partial, logarithm, rows * group, prefix,
                scaling, softcap or 0.0, asked.stride(0), asked.stride(1),
                GROUP=group, SIZE=size, WIDE=wide, QUERIES=SHARED_QUERIES,
                BLOCK=BLOCK, CAPPED=softcap is not None,
            )  # fmt: skip
        output = asked.new_empty(rows, queries, size)
        attend_rows[(rows * heads,)](
            asked, keys, values, *stored, *shared, partial, logarithm,
            asked if sinks is None else sinks, output, self._lengths, self._starts,
            self.columns, prefix, scaling, softcap or 0.0, sliding_window or 0,
            asked.stride(0), asked.stride(1), keys.stride(0), keys.stride(1),
            values.stride(0), values.stride(1),
            HEADS=heads, GROUP=group, MEMBERS=max(_FEWEST, triton.next_power_of_2(group)),
            SIZE=size, WIDE=wide, BLOCK=BLOCK, CAPPED=softcap is not None,
            SINKS=sinks is not None, WINDOWED=sliding_window is not None, MERGED=merged,
        )  # fmt: skip
        return output[None]

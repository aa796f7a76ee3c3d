"""Keys and values of replies that are being written, one new token a row and step.

Rows share the prefix that all their prompts start with: it is kept once, and read by all rows in
one product. A row's own keys and values start in column 0; columns after its newest token are
hidden. Rows of similar length are a block: a block's tensors are as wide as its longest row needs,
and products read them whole, since a part of a tensor would be copied in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice

import torch

from caft.kernels.attention import Extras
from caft.kernels.memory import return_freed_memory

# Widths of blocks are multiples of it: a block is copied once in so many steps.
_ROOM = 32
# A block's scores take one thread some 50 microseconds: what a second one spares is what it costs
# to meet it five times in a layer, and beside other work that costs far more
# (docs/decisions/0031-threads.md). A rule of shapes alone: results do not depend on the load.
_FEW_PRODUCTS = 2**20


@dataclass(slots=True)
class SharedPrefix:
    """Keys and values [1, heads, length, size] of the tokens every row starts with, by layer.

    `ids` are those tokens, for models that read them again with every row.
    """

    length: int = 0
    ids: tuple[int, ...] = ()
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Remember one layer's keys and values, as attention sees them."""
        self.keys[layer], self.values[layer] = key, value

    def keep_start(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Remember copies of the first ones of a pack that begins with these tokens."""
        inside = slice(self.length)
        self.keep(layer, key[:, :, inside].clone(), value[:, :, inside].clone())


@dataclass(slots=True)
class _Block:
    """Neighbouring rows from `start` on; keys and values are [rows, heads, width, size] by layer.

    `lengths` [rows] is valid during a step, `places` and `biases` are made once in it.
    """

    start: int
    rows: int
    width: int = 0
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    lengths: torch.Tensor | None = None
    places: dict[int, torch.Tensor] = field(default_factory=dict)
    biases: dict[int | None, torch.Tensor] = field(default_factory=dict)

    @property
    def stop(self) -> int:
        """The row after its last one."""
        return self.start + self.rows

    def fit(self, columns: int) -> None:
        """Be wide enough for `columns`, and less than twice as wide as that takes."""
        width = -(-columns // _ROOM) * _ROOM
        if width <= self.width < 2 * width:
            return
        kept = min(width, self.width)
        self.width = width
        for tensors in (self.keys, self.values):
            for layer, old in tensors.items():
                new = old.new_zeros(*old.shape[:2], width, old.shape[3])
                new[:, :, :kept] = old[:, :, :kept]
                tensors[layer] = new
        self.release()

    def release(self) -> None:
        """Return what changed tensors have left: the C library would soon keep as much again."""
        if any(tensor.device.type == "cpu" for tensor in islice(self.keys.values(), 1)):
            return_freed_memory()

    def begin_step(self, lengths: torch.Tensor) -> None:
        """A token of every row follows; the rows had `lengths` before it."""
        self.lengths = lengths
        self.places.clear()
        self.biases.clear()

    def write(
        self, layer: int, rows: torch.Tensor, columns: torch.Tensor, new: Sequence[torch.Tensor]
    ) -> None:
        """Keys and values [heads, tokens, size] of tokens in these rows and columns."""
        _, heads, _, size = self.keys[layer].shape
        first = rows * (heads * self.width) + columns
        places = first + torch.arange(heads, device=first.device)[:, None] * self.width
        for tensors, part in zip((self.keys, self.values), new, strict=True):
            flat = tensors[layer].view(-1, size)
            flat.index_copy_(0, places.flatten(), part.reshape(-1, size))

    def append(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """The step's key and value of every row, [rows * heads, size]."""
        _, heads, _, size = self.keys[layer].shape
        if heads not in self.places:
            assert self.lengths is not None
            first = torch.arange(self.rows * heads, device=key.device) * self.width
            self.places[heads] = first + self.lengths.repeat_interleave(heads)
        for tensors, part in ((self.keys, key), (self.values, value)):
            tensors[layer].view(-1, size).index_copy_(0, self.places[heads], part)

    def bias(self, prefix: int, window: int | None) -> torch.Tensor:
        """0 for columns, prefix first, that a row's new token sees, else -inf: [rows, columns]."""
        if window not in self.biases:
            assert self.lengths is not None
            (stored, *_) = self.keys.values()
            newest = self.lengths[:, None]
            column = torch.arange(-prefix, self.width, device=newest.device)
            hidden = column > newest
            if window is not None:
                hidden = hidden | (newest - column >= window)
            bias = torch.zeros(hidden.shape, dtype=stored.dtype, device=newest.device)
            self.biases[window] = bias.masked_fill_(hidden, -torch.inf)
        return self.biases[window]

    def select(self, rows: Sequence[int], start: int, columns: int) -> None:
        """Keep these of its rows, and start at row `start`."""
        kept = torch.tensor([row - self.start for row in rows])
        self.start, self.rows = start, len(rows)
        self.fit(columns)
        for tensors in (self.keys, self.values):
            for layer, old in tensors.items():
                tensors[layer] = old[kept.to(old.device)]
        self.release()


@dataclass(frozen=True, slots=True)
class NewRows:
    """Prompts that join a cache, by block: which tokens of a pack, and their rows and columns.

    `first` is given the keys and values of the pack's first prompt, for rows that join later.
    """

    cache: ReplyCache
    pieces: tuple[tuple[_Block, torch.Tensor, torch.Tensor, torch.Tensor], ...]
    first: SharedPrefix | None = None

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take in one layer of the packed prompts: [1, heads, tokens, size]."""
        self.cache.make(layer, key, value)
        for block, tokens, rows, columns in self.pieces:
            block.write(layer, rows, columns, (key[0][:, tokens], value[0][:, tokens]))
        if self.first is not None:
            self.first.keep_start(layer, key, value)


class ReplyCache:
    """The rows' own keys and values.

    `lengths` counts every row's own tokens so far, after the prefix; 0 is a free row. `expected`
    are the lengths of the first prompts by row, the longest first: they say which rows are a block.
    """

    def __init__(self, prefix: SharedPrefix, expected: Sequence[int], device: torch.device) -> None:
        self.prefix, self.device = prefix, device
        self.lengths = [0] * len(expected)
        self.blocks = list(_plan_blocks(expected))
        # The lengths on the device, where they grow from step to step without a transfer.
        self._lengths: torch.Tensor | None = None

    @property
    def positions(self) -> torch.Tensor:
        """The position of every row's next token, [rows]; valid from `begin_step` on."""
        assert self._lengths is not None
        return self._lengths + self.prefix.length

    def admit(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> NewRows:
        """Make room for prompts, in the order of a pack; each is written to all of its free rows.

        Their keys and values follow layer by layer.
        """
        starts = [stop - length for stop, length in zip(accumulate(lengths), lengths, strict=True)]
        placed = [
            (start, length, row)
            for start, length, copies in zip(starts, lengths, rows, strict=True)
            for row in copies
        ]
        for _, length, row in placed:
            assert not self.lengths[row]
            self.lengths[row] = length
        self._lengths = None
        start, count, row_of = torch.tensor(placed).T
        row_of_token = row_of.repeat_interleave(count)
        first = (count.cumsum(0) - count).repeat_interleave(count)
        column = torch.arange(len(first)) - first
        token = start.repeat_interleave(count) + column
        pieces = []
        for block in self.blocks:
            inside = (row_of_token >= block.start) & (row_of_token < block.stop)
            if inside.any():
                self._fit(block)
                places = (token[inside], row_of_token[inside] - block.start, column[inside])
                at, own, columns = (each.to(self.device) for each in places)
                pieces.append((block, at, own, columns))
        return NewRows(self, tuple(pieces))

    def make(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Have the layer's tensors, for heads like these: [1, heads, tokens, size]."""
        for block in self.blocks:
            if layer not in block.keys:
                for tensors, part in ((block.keys, key), (block.values, value)):
                    _, heads, _, size = part.shape
                    tensors[layer] = part.new_zeros(block.rows, heads, block.width, size)

    def free(self, row: int) -> None:
        """The row's reply has ended."""
        self.lengths[row] = 0
        self._lengths = None

    def begin_step(self) -> None:
        """Before one token of every row is run: there is a column for it."""
        if self._lengths is None:
            self._lengths = torch.tensor(self.lengths, device=self.device)
        for block in self.blocks:
            self._fit(block)
            block.begin_step(self._lengths[block.start : block.stop])

    def end_step(self) -> None:
        """After it: the rows in use are one token longer."""
        assert self._lengths is not None
        self._lengths = self._lengths + self._lengths.clamp(max=1)
        self.lengths = [length + 1 if length else 0 for length in self.lengths]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows only; in ascending order."""
        assert list(rows) == sorted(rows)
        before, self.lengths = self.lengths, [self.lengths[row] for row in rows]
        self._lengths = None
        blocks, start = [], 0
        for block in self.blocks:
            kept = [row for row in rows if block.start <= row < block.stop]
            if kept:
                block.select(kept, start, 1 + max(before[row] for row in kept))
                start = block.stop
                blocks.append(block)
        self.blocks = blocks

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
        _, heads, rows, size = key.shape
        # Heads that share a key are adjacent, so that keys are never repeated.
        asked, keys, values = (
            part[0].transpose(0, 1).reshape(rows * heads, -1, size) for part in (query, key, value)
        )
        attend = _attend_block if extras is None else partial(_attend_block_plainly, extras)
        outputs = []
        for block in self.blocks:
            inside = slice(block.start * heads, block.stop * heads)
            block.append(layer, keys[inside, 0], values[inside, 0])
            products = asked[inside].numel() * (self.prefix.length + block.width)
            with _fitting_threads(products, asked.device):
                output = attend(
                    block, layer, asked[inside], self.prefix, scaling=scaling, window=sliding_window
                )
            outputs.append(output)
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return output.view(1, rows, -1, size)

    def _fit(self, block: _Block) -> None:
        block.fit(1 + max(self.lengths[block.start : block.stop]))


@contextmanager
def _fitting_threads(products: int, device: torch.device) -> Iterator[None]:
    """One thread in the body where so many products are too few to share, else all."""
    threads = torch.get_num_threads()
    alone = device.type == "cpu" and threads > 1 and products <= _FEW_PRODUCTS
    if alone:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone:
            torch.set_num_threads(threads)


def _plan_blocks(expected: Sequence[int]) -> Iterator[_Block]:
    """A block ends where rows need two thirds of its width or less: each costs products a layer."""
    start = 0
    for row in range(1, len(expected) + 1):
        ends = row == len(expected)
        if ends or 3 * (expected[row] + _ROOM) <= 2 * (expected[start] + _ROOM):
            yield _Block(start, row - start)
            start = row


def _attend_block(
    block: _Block,
    layer: int,
    asked: torch.Tensor,
    prefix: SharedPrefix,
    *,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """In and out: [rows * heads, group, size]."""
    keys, values = block.keys[layer].flatten(0, 1), block.values[layer].flatten(0, 1)
    heads, shared = len(keys) // block.rows, prefix.length
    bias = block.bias(shared, window)
    own_bias = bias[:, None, None, shared:].expand(-1, heads, 1, -1).flatten(0, 1)
    scores = torch.baddbmm(own_bias, asked, keys.mT, alpha=scaling)
    if not shared:
        return torch.bmm(_softmax(scores), values)
    group, size = asked.shape[1:]
    # All rows read what they share in one product a head.
    across = asked.view(block.rows, heads, group, size).transpose(0, 1).flatten(1, 2)
    over = torch.baddbmm(
        across.new_empty(()), across, prefix.keys[layer][0].mT, beta=0, alpha=scaling
    )
    over = over.view(heads, block.rows, group, shared).transpose(0, 1)
    if window is not None:
        over = over + bias[:, None, None, :shared]
    weights = _softmax(torch.cat([over, scores.view(block.rows, heads, group, -1)], dim=-1))
    own = torch.bmm(weights[..., shared:].flatten(0, 1), values)
    across = weights[..., :shared].transpose(0, 1).flatten(1, 2)
    read = torch.bmm(across, prefix.values[layer][0]).view(heads, block.rows, group, size)
    return own + read.transpose(0, 1).flatten(0, 1)


def _attend_block_plainly(
    extras: Extras,
    block: _Block,
    layer: int,
    asked: torch.Tensor,
    prefix: SharedPrefix,
    *,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """The same with soft caps or sinks; what rows share is copied for each of them."""
    keys, values = block.keys[layer], block.values[layer]
    if prefix.length:
        shared = (
            part[layer].expand(block.rows, -1, -1, -1) for part in (prefix.keys, prefix.values)
        )
        keys, values = (torch.cat(both, dim=2) for both in zip(shared, (keys, values), strict=True))
    heads, (group, size) = keys.shape[1], asked.shape[1:]
    queries = asked.view(block.rows, heads, group, size)
    scores = extras.cap(queries @ keys.mT * scaling)
    scores = scores + block.bias(prefix.length, window)[:, None, None]
    weights = extras.softmax(scores.flatten(1, 2)).view(scores.shape)
    return (weights @ values).flatten(0, 1)


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    # torch's bfloat16 softmax is slow where the columns are no multiple of its lanes.
    exact = torch.promote_types(scores.dtype, torch.float32)
    return torch.softmax(scores, dim=-1, dtype=exact).to(scores.dtype)

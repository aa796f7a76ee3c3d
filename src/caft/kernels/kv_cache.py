"""Keys and values of replies that are being written, one new token a row and step.

Rows share the prefix that all their prompts start with: it is kept once, and read by all rows in
one product. A row's own keys and values end in the column of the current step, the same for every
row, so that a step writes one column and reads one block. A prompt that joins later is put in
front of that column; columns before a row's own first token are hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

# Columns that are made at once: the whole cache is copied once in so many steps.
_ROOM = 64


@dataclass(slots=True)
class SharedPrefix:
    """Keys and values [1, heads, length, size] of the tokens every row starts with, by layer."""

    length: int = 0
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Remember one layer's keys and values, as attention sees them."""
        self.keys[layer], self.values[layer] = key, value


@dataclass(frozen=True, slots=True)
class NewRows:
    """Prompts that join a cache: rows, and their own lengths in tokens, in the order of a pack."""

    cache: ReplyCache
    rows: tuple[int, ...]
    lengths: tuple[int, ...]

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take in one layer of the packed prompts: [1, heads, tokens, size]."""
        self.cache.put(layer, self, key, value)


class ReplyCache:
    """The rows' own keys and values, [rows, heads, columns, size] by layer.

    `lengths` counts every row's own tokens so far, after the prefix; 0 is a free row. The next
    step's tokens go into `column`.
    """

    def __init__(self, prefix: SharedPrefix, rows: int, device: torch.device) -> None:
        self.prefix, self.device = prefix, device
        self.lengths = [0] * rows
        self.column = 0
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self._capacity = 0
        self._biases: dict[int | None, torch.Tensor] = {}

    @property
    def positions(self) -> torch.Tensor:
        """The position of every row's next token, [rows]."""
        return torch.tensor(self.lengths, device=self.device) + self.prefix.length

    def admit(self, rows: Sequence[int], lengths: Sequence[int]) -> NewRows:
        """Make room for prompts in free rows; their keys and values follow layer by layer."""
        assert not any(self.lengths[row] for row in rows)
        if max(lengths) > self.column:
            self._move(max(lengths))
        for row, length in zip(rows, lengths, strict=True):
            self.lengths[row] = length
        return NewRows(self, tuple(rows), tuple(lengths))

    def put(self, layer: int, new: NewRows, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keys and values of packed prompts, each up to the column before the next step's."""
        if layer not in self.keys:
            _, heads, _, size = key.shape
            shape = (len(self.lengths), heads, self._capacity, size)
            self.keys[layer], self.values[layer] = key.new_zeros(shape), value.new_zeros(shape)
        start = 0
        for row, length in zip(new.rows, new.lengths, strict=True):
            columns = slice(self.column - length, self.column)
            self.keys[layer][row, :, columns] = key[0, :, start : start + length]
            self.values[layer][row, :, columns] = value[0, :, start : start + length]
            start += length

    def free(self, row: int) -> None:
        """The row's reply has ended."""
        self.lengths[row] = 0

    def begin_step(self) -> None:
        """Before one token of every row is run: there is a column for it."""
        self._biases.clear()
        if self.column == self._capacity:
            self._move(max(self.lengths))

    def end_step(self) -> None:
        """After it: the rows in use are one token longer."""
        self.column += 1
        self.lengths = [length + 1 if length else 0 for length in self.lengths]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows only, in this order."""
        kept = torch.tensor(list(rows), device=self.device)
        self.lengths = [self.lengths[row] for row in rows]
        for layer in self.keys:
            self.keys[layer] = self.keys[layer][kept]
            self.values[layer] = self.values[layer][kept]

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        sliding_window: int | None,
    ) -> torch.Tensor:
        """Every row's new token looks back over its row.

        In: [1, heads, rows, size]. Out: [1, rows, heads, size].
        """
        self.keys[layer][:, :, self.column] = key[0].transpose(0, 1)
        self.values[layer][:, :, self.column] = value[0].transpose(0, 1)
        seen = slice(self._first_column, self.column + 1)
        keys, values = self.keys[layer][:, :, seen], self.values[layer][:, :, seen]
        rows, heads, columns, size = keys.shape
        # Heads that share a key are adjacent, so that keys are never repeated.
        asked = query[0].transpose(0, 1).reshape(rows, heads, -1, size)
        shared, bias = self.prefix.length, self._bias(sliding_window)
        # Kept in float32, and scaled while they are written there.
        scores = bias.new_empty(heads, rows, asked.shape[2], shared + columns)
        # Keys first: a product with few columns is several times as fast as one with few rows.
        own = (keys @ asked.mT).permute(1, 0, 3, 2)
        torch.add(bias[..., shared:], own, alpha=scaling, out=scores[..., shared:])
        if shared:
            over = _over_prefix(asked, self.prefix.keys[layer][0].mT)
            before = bias[..., :shared] if sliding_window is not None else bias.new_zeros(1)
            torch.add(before, over, alpha=scaling, out=scores[..., :shared])
        weights = torch.softmax(scores, dim=-1).to(values.dtype)
        output = weights[..., shared:].transpose(0, 1) @ values
        if shared:
            flat = weights[..., :shared].reshape(heads, -1, shared) @ self.prefix.values[layer][0]
            output = output + flat.view(heads, rows, -1, size).transpose(0, 1)
        return output.reshape(1, rows, -1, size)

    @property
    def _first_column(self) -> int:
        return self.column - max(self.lengths)

    def _bias(self, sliding_window: int | None) -> torch.Tensor:
        """0 for columns, prefix first, that a row's new token sees, else -inf: [rows, 1, columns].

        Made once a step for all layers.
        """
        if sliding_window not in self._biases:
            lengths = torch.tensor(self.lengths, device=self.device)[:, None]
            # How many tokens each column is before the new one.
            own = torch.arange(self.column - self._first_column, -1, -1, device=self.device)
            shared = torch.arange(self.prefix.length, 0, -1, device=self.device)
            behind = torch.cat([lengths + shared, own.expand(len(lengths), -1)], dim=1)
            hidden = torch.cat([torch.zeros_like(shared), own], dim=0) > lengths
            if sliding_window is not None:
                hidden = hidden | (behind >= sliding_window)
            (stored, *_) = self.keys.values()
            dtype = torch.promote_types(stored.dtype, torch.float32)
            bias = torch.zeros(behind.shape, dtype=dtype, device=self.device)
            self._biases[sliding_window] = bias.masked_fill_(hidden, -torch.inf)[:, None]
        return self._biases[sliding_window]

    def _move(self, column: int) -> None:
        """Let the next step's column be `column`, with free ones after it."""
        longest = max(self.lengths)
        self._capacity = max(self._capacity, column + _ROOM)
        for tensors in (self.keys, self.values):
            for layer, old in tensors.items():
                new = old.new_zeros(*old.shape[:2], self._capacity, old.shape[3])
                new[:, :, column - longest : column] = old[:, :, self._first_column : self.column]
                tensors[layer] = new
        self.column = column


def _over_prefix(rows: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """[rows, heads, group, size] times what all rows share, [heads, size, columns].

    One product a head; returns [heads, rows, group, columns].
    """
    count, heads, group, size = rows.shape
    flat = rows.transpose(0, 1).reshape(heads, count * group, size)
    return (flat @ keys).view(heads, count, group, -1)

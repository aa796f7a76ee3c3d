"""Keys and values of replies that are being written, one new token a row and step.

Rows share the prefix that all their prompts start with: it is kept once, and read by all rows in
one product. A row's own tokens are right-aligned, so that the token of step t is in the same column
for every row, and columns left of a short prompt are hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


@dataclass(slots=True)
class SharedPrefix:
    """Keys and values [1, heads, length, size] of the tokens every row starts with, by layer."""

    length: int = 0
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Remember one layer's keys and values, as attention sees them."""
        self.keys[layer], self.values[layer] = key, value


@dataclass(slots=True)
class ReplyCache:
    """The rows' own keys and values, [rows, heads, columns, size] by layer.

    `lengths` [rows] counts a row's own prompt tokens, after the prefix; columns 0..`width`-1
    hold them, right-aligned; `reply_tokens` columns for the reply follow. `step` is the number of
    tokens written so far.
    """

    prefix: SharedPrefix
    lengths: torch.Tensor
    width: int
    reply_tokens: int
    step: int = 0
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    _hidden: dict[int | None, torch.Tensor] = field(default_factory=dict)

    @property
    def positions(self) -> torch.Tensor:
        """The position of every row's next token, [rows]."""
        return self.prefix.length + self.lengths + self.step

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take in the prompts, packed in rows sorted by length: [1, heads, tokens, size]."""
        rows = self.lengths.tolist()
        _, heads, _, size = key.shape
        shape = (len(rows), heads, self.width + self.reply_tokens, size)
        self.keys[layer], self.values[layer] = key.new_zeros(shape), value.new_zeros(shape)
        start = 0
        for row, length in enumerate(rows):
            columns = slice(self.width - length, self.width)
            self.keys[layer][row, :, columns] = key[0, :, start : start + length]
            self.values[layer][row, :, columns] = value[0, :, start : start + length]
            start += length

    def select(self, rows: Sequence[int]) -> None:
        """Continue with some of the rows only."""
        self._hidden.clear()
        kept = torch.tensor(list(rows), device=self.lengths.device)
        self.lengths = self.lengths[kept]
        for layer in self.keys:
            self.keys[layer] = self.keys[layer][kept]
            self.values[layer] = self.values[layer][kept]

    def advance(self) -> None:
        """Advance to the next token."""
        self._hidden.clear()
        self.step += 1

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
        column = self.width + self.step
        self.keys[layer][:, :, column] = key[0].transpose(0, 1)
        self.values[layer][:, :, column] = value[0].transpose(0, 1)
        keys, values = (kept[layer][:, :, : column + 1] for kept in (self.keys, self.values))
        rows, heads, _, size = keys.shape
        # Heads that share a key are adjacent, so that keys are never repeated.
        queries = query[0].transpose(0, 1).reshape(rows, heads, -1, size)
        scores = queries @ keys.transpose(-1, -2)
        if self.prefix.length:
            scores = torch.cat([_over_prefix(queries, self.prefix.keys[layer][0].mT), scores], -1)
        if sliding_window not in self._hidden:  # once a step for all layers
            self._hidden[sliding_window] = ~self._visible(sliding_window)
        scores = (scores.float() * scaling).masked_fill(self._hidden[sliding_window], -torch.inf)
        weights = torch.softmax(scores, dim=-1).to(values.dtype)
        output = weights[..., self.prefix.length :] @ values
        if self.prefix.length:
            shares = weights[..., : self.prefix.length]
            output = output + _over_prefix(shares, self.prefix.values[layer][0])
        return output.reshape(1, rows, -1, size)

    def _visible(self, sliding_window: int | None) -> torch.Tensor:
        """Which columns, prefix first, each row's new token may see: [rows, 1, 1, columns]."""
        device = self.lengths.device
        own = torch.arange(self.width + self.step + 1, device=device) - self.width
        positions = self.prefix.length + self.lengths[:, None] + own
        visible = own >= -self.lengths[:, None]
        shared = torch.arange(self.prefix.length, device=device).expand(len(self.lengths), -1)
        positions = torch.cat([shared, positions], dim=1)
        visible = torch.cat([torch.ones_like(shared, dtype=torch.bool), visible], dim=1)
        if sliding_window is not None:
            visible &= positions > self.positions[:, None] - sliding_window
        return visible[:, None, None]


def _over_prefix(rows: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """[rows, heads, group, a] times what all rows share, [heads, a, b], as one product a head."""
    count, heads, group, size = rows.shape
    flat = rows.transpose(0, 1).reshape(heads, count * group, size)
    return (flat @ shared).view(heads, count, group, -1).transpose(0, 1)

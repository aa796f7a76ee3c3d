"""The cache of a CUDA device: a row sees the prefix and itself, whoever joins, ends or grows.

Each output is compared with attention in float64 over a row's own history, kept as a plain list.
Without a device the kernels run in Triton's interpreter (TRITON_INTERPRET=1), if it is installed.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from caft.kernels.attention import Extras
from caft.kernels.kv_cache import SharedPrefix
from caft.kernels.row_cache import RowCache
from triton_device import find_triton_device

pytestmark = pytest.mark.numerics
DEVICE = find_triton_device()
SCALE = 0.3


class Shape(NamedTuple):
    """Of a layer, and what it has beside queries, keys and values."""

    heads: int = 2
    group: int = 3
    size: int = 16
    prefix: int = 0
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False


SHAPES = [
    Shape(),
    Shape(prefix=5, size=24),
    Shape(heads=1, group=4, prefix=70, softcap=3.0, sinks=True),
    Shape(prefix=70, window=9, sinks=True),
    Shape(prefix=70, window=90, softcap=2.0),
    Shape(group=1, size=96, prefix=130),
    Shape(group=8, size=128, prefix=700),
]


class Written:
    """A cache of three rows beside what each row has seen, [heads, tokens, size]."""

    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.draw = torch.Generator().manual_seed(1)
        self.prefix = SharedPrefix(shape.prefix)
        self.prefix.keep(0, self.tensor(shape.prefix), self.tensor(shape.prefix))
        # Two tokens of room: parts must grow in the course of a test.
        self.cache = RowCache(self.prefix, [80, 9, 3], 2, DEVICE)
        sinks = self.tensor(1)[0, :, 0, :1].repeat(1, shape.group).flatten()
        self.sinks = sinks if shape.sinks else None
        self.rows: dict[int, list[torch.Tensor]] = {}

    def tensor(self, tokens: int, heads: int | None = None) -> torch.Tensor:
        """[1, heads, tokens, size], laid out as a projection's output."""
        sizes = (1, tokens, heads or self.shape.heads, self.shape.size)
        drawn = torch.randn(sizes, generator=self.draw, dtype=torch.float64)
        return drawn.to(DEVICE, self.dtype).transpose(1, 2)

    def admit(self, lengths: dict[int, int]) -> None:
        """Prompts by row, the shorter ones first."""
        joining = self.cache.admit([[row] for row in lengths], list(lengths.values()))
        packed = self.tensor(sum(lengths.values())), self.tensor(sum(lengths.values()))
        joining.keep(0, *packed)
        pieces = [part[0].split(list(lengths.values()), dim=1) for part in packed]
        before = self.prefix.keys[0][0], self.prefix.values[0][0]
        for row, key, value in zip(lengths, *pieces, strict=True):
            both = zip(before, (key, value), strict=True)
            self.rows[row] = [torch.cat(parts, dim=1) for parts in both]

    def end(self, row: int) -> None:
        self.cache.free(row)
        del self.rows[row]

    def step(self) -> None:
        """One token in every row, compared in every row that is in use."""
        self.cache.begin_step()
        shape, count = self.shape, len(self.cache.lengths)
        query = self.tensor(count, shape.heads * shape.group)
        new = self.tensor(count), self.tensor(count)
        plain = shape.softcap is None and self.sinks is None
        extras = None if plain else Extras(shape.softcap, self.sinks)
        output = self.cache.attend(
            0, query, *new, scaling=SCALE, sliding_window=shape.window, extras=extras
        )
        assert output.shape == (1, count, shape.heads * shape.group, shape.size)
        for row, seen in self.rows.items():
            for place, part in enumerate(new):
                seen[place] = torch.cat([seen[place], part[0, :, [row]]], dim=1)
            keys, values = (part[:, -(shape.window or 10**6) :].double() for part in seen)
            expected = self.attend_exactly(query[0, :, row].double(), keys, values)
            tolerance = 1e-4 if self.dtype == torch.float32 else 3e-2
            torch.testing.assert_close(
                output[0, row].double(), expected, rtol=tolerance, atol=tolerance
            )
        self.cache.end_step()

    def attend_exactly(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        scores = query.view(self.shape.heads, self.shape.group, -1) @ keys.mT * SCALE
        if self.shape.softcap is not None:
            scores = self.shape.softcap * (scores / self.shape.softcap).tanh()
        if self.sinks is not None:
            sinks = self.sinks.double().view(self.shape.heads, self.shape.group, 1)
            scores = torch.cat([scores, sinks], dim=-1)
        weights = scores.softmax(-1)[..., : keys.shape[1]]
        return (weights @ values).flatten(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_sees_the_prefix_and_itself(shape: Shape, dtype: torch.dtype) -> None:
    if DEVICE.type == "cpu" and dtype is torch.bfloat16:
        pytest.skip("the interpreter has no bfloat16 of its own")
    written = Written(shape, dtype)
    written.admit({1: 3, 0: 80})
    written.step()
    written.step()
    written.admit({2: 2})
    for _ in range(4):
        written.step()
    written.end(0)
    written.step()
    written.admit({0: 1})
    written.step()
    written.end(1)
    written.cache.select([0, 2])
    written.rows = {0: written.rows[0], 1: written.rows[2]}
    for _ in range(8):
        written.step()

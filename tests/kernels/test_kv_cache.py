"""Every row sees the prefix and its own tokens, whoever joins, ends or is left out beside it.

Each output is compared with attention in float64 over a row's own history, kept as a plain list.
"""

from __future__ import annotations

import pytest
import torch

from caft.kernels.kv_cache import (
    _FEW_PRODUCTS,
    _ROOM,
    ReplyCache,
    SharedPrefix,
    _fitting_threads,
)

HEADS, GROUP, SIZE, SCALE = 2, 3, 8, 0.3
# By layer: a cache serves models whose layers differ in it.
pytestmark = pytest.mark.numerics

WINDOWS = (None, 4)
# Lengths that make one block of all rows, two, and one of each.
BLOCKS = ((3, 3, 3), (200, 3, 3), (900, 200, 3))


class Written:
    """A cache of three rows beside what each row has seen, [heads, tokens, size] by layer."""

    def __init__(self, prefix_length: int, expected: tuple[int, ...]) -> None:
        self.draw = torch.Generator().manual_seed(1)
        self.prefix = SharedPrefix(prefix_length)
        self.cache = ReplyCache(self.prefix, expected, torch.device("cpu"))
        for layer in range(len(WINDOWS)):
            self.prefix.keep(layer, self.tensor(prefix_length), self.tensor(prefix_length))
        self.rows: dict[int, list[list[torch.Tensor]]] = {}

    def tensor(self, tokens: int, heads: int = HEADS) -> torch.Tensor:
        return torch.randn(1, heads, tokens, SIZE, generator=self.draw, dtype=torch.float64)

    def admit(self, lengths: dict[int, int]) -> None:
        """Prompts by row, the shorter ones first."""
        keep = self.cache.admit([[row] for row in lengths], list(lengths.values()))
        self.rows |= {row: [] for row in lengths}
        for layer in range(len(WINDOWS)):
            packed = self.tensor(sum(lengths.values())), self.tensor(sum(lengths.values()))
            keep.keep(layer, *packed)
            pieces = [part[0].split(list(lengths.values()), dim=1) for part in packed]
            before = self.prefix.keys[layer][0], self.prefix.values[layer][0]
            for row, key, value in zip(lengths, *pieces, strict=True):
                both = zip(before, (key, value), strict=True)
                self.rows[row].append([torch.cat(parts, dim=1) for parts in both])

    def end(self, row: int) -> None:
        self.cache.free(row)
        del self.rows[row]

    def step(self) -> None:
        """One token in every row, compared in every row that is in use."""
        self.cache.begin_step()
        count = len(self.cache.lengths)
        for layer, window in enumerate(WINDOWS):
            query, key, value = self.tensor(count, HEADS * GROUP), *map(self.tensor, [count] * 2)
            output = self.cache.attend(
                layer, query, key, value, scaling=SCALE, sliding_window=window
            )
            for row, seen in self.rows.items():
                for place, new in enumerate((key, value)):
                    seen[layer][place] = torch.cat([seen[layer][place], new[0, :, [row]]], dim=1)
                keys, values = (part[:, -(window or 10**6) :] for part in seen[layer])
                asked = query[0, :, row].view(HEADS, GROUP, SIZE)
                expected = torch.softmax(asked @ keys.mT * SCALE, dim=-1) @ values
                torch.testing.assert_close(output[0, row], expected.flatten(0, 1))
        self.cache.end_step()


@pytest.mark.parametrize("expected", BLOCKS, ids=str)
@pytest.mark.parametrize("prefix_length", [0, 5])
def test_a_row_sees_the_prefix_and_itself_whoever_joins_or_ends(
    prefix_length: int, expected: tuple[int, ...]
) -> None:
    written = Written(prefix_length, expected)
    written.admit({2: 1, 0: 3, 1: 7})
    for _ in range(3):
        written.step()
    written.end(1)
    written.step()
    # Longer than any row so far: what is stored moves to the right of it.
    written.admit({1: 40})
    written.step()
    written.end(0)
    written.end(2)
    written.admit({2: 2, 0: 4})
    # And past the end of what was made at first.
    for _ in range(_ROOM + 10):
        written.step()
    widths = [block.width for block in written.cache.blocks]
    assert max(widths) <= 40 + 2 * _ROOM + 10


@pytest.mark.parametrize("expected", BLOCKS, ids=str)
@pytest.mark.parametrize("prefix_length", [0, 5])
def test_rows_that_are_kept_go_on_as_they_were(
    prefix_length: int, expected: tuple[int, ...]
) -> None:
    written = Written(prefix_length, expected)
    written.admit({0: 1, 1: 3, 2: 7})
    written.step()
    written.end(1)
    written.cache.select([0, 2])
    written.rows = {0: written.rows[0], 1: written.rows[2]}
    for _ in range(3):
        written.step()


def test_a_block_is_as_wide_as_its_longest_row_needs() -> None:
    written = Written(0, (200, 190, 3))
    written.admit({2: 3, 1: 190, 0: 200})
    written.step()
    assert [(block.rows, block.width) for block in written.cache.blocks] == [(2, 224), (1, 32)]
    written.end(0)
    written.end(1)
    written.admit({1: 5})
    written.step()
    assert [block.width for block in written.cache.blocks] == [32, 32]
    # Rows that are left out take their block along.
    written.cache.select([1])
    written.rows = {0: written.rows[1]}
    written.step()
    assert [(block.rows, block.width) for block in written.cache.blocks] == [(1, 32)]


def test_few_products_have_one_thread_and_all_that_follows_has_every_thread() -> None:
    before, cpu = torch.get_num_threads(), torch.device("cpu")
    torch.set_num_threads(2)
    try:
        with _fitting_threads(_FEW_PRODUCTS, cpu):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with _fitting_threads(_FEW_PRODUCTS + 1, cpu):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""Attention of one new token a row over its own part of a cache, in one launch a layer, on CUDA.

A row's program reads its keys and values once, and no column beyond its newest token; it stores the
new key and value, too. What all rows share is read by blocks of queries of many rows at a time, and
both results are merged by the logarithms of their sums (Dao, arXiv 2205.14135; Ye et al.,
arXiv 2501.01005). All shapes stay the same from step to step, as CUDA graphs need it.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Columns that a program reads at a time.
BLOCK = 64
# Queries [row, head] that read the shared columns together.
SHARED_QUERIES = 64


@triton.jit
def _read_columns(
    query, largest, total, read, keys, values, first, stop, newest, scale, cap, window,
    SIZE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    CAPPED: tl.constexpr, WINDOWED: tl.constexpr,
):  # fmt: skip
    """Columns `first` to `stop` of keys and values [columns, SIZE], after what was read before.

    `newest` is the column of the new token, counted as these are.
    """
    number = tl.arange(0, WIDE)
    inside = number < SIZE
    for start in range(first, stop, BLOCK):
        column = start + tl.arange(0, BLOCK)
        valid = column < stop
        place = column.to(tl.int64)[:, None] * SIZE + number[None, :]
        mask = valid[:, None] & inside[None, :]
        key = tl.load(keys + place, mask=mask, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        if CAPPED:
            # tanh(x) = 1 - 2 / (exp(2 x) + 1)
            score = cap * (1 - 2 / (tl.exp(2 * score / cap) + 1))
        if WINDOWED:
            valid = valid & (newest - column < window)
        score = tl.where(valid[None, :], score, float("-inf"))
        higher = tl.maximum(largest, tl.max(score, 1))
        weight = tl.exp(score - higher[:, None])
        shrunk = tl.exp(largest - higher)
        value = tl.load(values + place, mask=mask, other=0.0)
        read = read * shrunk[:, None]
        read += tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        total = total * shrunk + tl.sum(weight, 1)
        largest = higher
    return largest, total, read


@triton.jit
def attend_shared(
    query, keys, values, output, logarithm, queries, columns, scale, cap,
    query_row, query_head,
    GROUP: tl.constexpr, SIZE: tl.constexpr, WIDE: tl.constexpr,
    QUERIES: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """What every query reads of the shared `columns`, by blocks of queries of a key's head.

    Out: [queries, SIZE] and the logarithm of its sum [queries] in float32, a key's head after the
    other; `queries` are rows x GROUP.
    """
    head = tl.program_id(1)
    index = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    number = tl.arange(0, WIDE)
    used = index < queries
    mask = used[:, None] & (number < SIZE)[None, :]
    row, member = index // GROUP, index % GROUP
    at = row.to(tl.int64) * query_row + (head * GROUP + member) * query_head
    asked = tl.load(query + at[:, None] + number[None, :], mask=mask, other=0.0)
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    read = tl.zeros([QUERIES, WIDE], tl.float32)
    begin = head.to(tl.int64) * columns * SIZE
    largest, total, read = _read_columns(
        asked, largest, total, read, keys + begin, values + begin, 0, columns, columns,
        scale, cap, 0, SIZE, WIDE, BLOCK, CAPPED, False,
    )  # fmt: skip
    place = head.to(tl.int64) * queries + index
    tl.store(output + place[:, None] * SIZE + number[None, :], read / total[:, None], mask=mask)
    tl.store(logarithm + place, largest + tl.log(total), mask=used)


@triton.jit
def attend_rows(
    query, new_key, new_value, keys, values, shared_keys, shared_values, shared, logarithm, sinks,
    output, lengths, starts, columns, prefix, scale, cap, window,
    query_row, query_head, key_row, key_head, value_row, value_head,
    HEADS: tl.constexpr, GROUP: tl.constexpr, MEMBERS: tl.constexpr,
    SIZE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    CAPPED: tl.constexpr, SINKS: tl.constexpr, WINDOWED: tl.constexpr, MERGED: tl.constexpr,
):  # fmt: skip
    """A row's new token, for one head of its keys, over the prefix, the row and itself.

    Keys and values are [HEADS, columns, SIZE]; a row's own start at `starts` and are `lengths` long
    so far. `MERGED` takes what `attend_shared` has read in place of the prefix. Out:
    [rows, HEADS * GROUP, SIZE].
    """
    row, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    length, start = tl.load(lengths + row), tl.load(starts + row).to(tl.int64)
    member, number = tl.arange(0, MEMBERS), tl.arange(0, WIDE)
    used, inside = member < GROUP, number < SIZE
    mask = used[:, None] & inside[None, :]
    first = row.to(tl.int64) * query_row + (head * GROUP + member) * query_head
    asked = tl.load(query + first[:, None] + number[None, :], mask=mask, other=0.0)
    key_at = row.to(tl.int64) * key_row + head * key_head
    key = tl.load(new_key + key_at + number, mask=inside, other=0.0)
    value_at = row.to(tl.int64) * value_row + head * value_head
    value = tl.load(new_value + value_at + number, mask=inside, other=0.0)
    own = (head.to(tl.int64) * columns + start) * SIZE
    stored = own + length.to(tl.int64) * SIZE + number
    tl.store(keys + stored, key, mask=inside)
    tl.store(values + stored, value, mask=inside)
    # The new token itself is what has been read so far.
    score = tl.sum(asked.to(tl.float32) * key.to(tl.float32)[None, :], 1) * scale
    if CAPPED:
        score = cap * (1 - 2 / (tl.exp(2 * score / cap) + 1))
    largest = score
    total = tl.full([MEMBERS], 1.0, tl.float32)
    read = tl.zeros([MEMBERS, WIDE], tl.float32) + value.to(tl.float32)[None, :]
    if SINKS:
        sink = tl.load(sinks + head * GROUP + member, mask=used, other=float("-inf"))
        sink = sink.to(tl.float32)
        largest = tl.maximum(score, sink)
        shrunk = tl.exp(score - largest)
        total = shrunk + tl.exp(sink - largest)
        read = read * shrunk[:, None]
    newest = prefix + length
    seen = 0
    if WINDOWED:
        seen = tl.maximum(newest - window + 1, 0)
    if MERGED:
        place = head.to(tl.int64) * (tl.num_programs(0) // HEADS) * GROUP + row * GROUP + member
        other = tl.load(logarithm + place, mask=used, other=float("-inf"))
        before = tl.load(shared + place[:, None] * SIZE + number[None, :], mask=mask, other=0.0)
        higher = tl.maximum(largest, other)
        shrunk, joined = tl.exp(largest - higher), tl.exp(other - higher)
        read = read * shrunk[:, None] + before * joined[:, None]
        total = total * shrunk + joined
        largest = higher
    else:
        begin = head.to(tl.int64) * prefix * SIZE
        largest, total, read = _read_columns(
            asked, largest, total, read, shared_keys + begin, shared_values + begin,
            seen, prefix, newest, scale, cap, window, SIZE, WIDE, BLOCK, CAPPED, WINDOWED,
        )  # fmt: skip
    largest, total, read = _read_columns(
        asked, largest, total, read, keys + own, values + own,
        tl.maximum(seen - prefix, 0), length, length,
        scale, cap, window, SIZE, WIDE, BLOCK, CAPPED, WINDOWED,
    )  # fmt: skip
    place = (row.to(tl.int64) * HEADS + head) * GROUP + member
    written = place[:, None] * SIZE + number[None, :]
    tl.store(output + written, read / total[:, None], mask=mask)

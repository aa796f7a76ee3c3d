"""Pads packs of training to a few shapes, for CUDA graphs, and changes nothing they teach. Pure.

What is added is a row of its own that no other row sees, and trained tokens of that row with a
share of 0 in the loss: loss and gradients are those of the pack, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn.functional import pad

from caft.kernels.packed_attention import Layout, Run
from caft.tune.batches import Shape, Step, TrainingPack

# Sizes from one power of two to the next. More of them waste fewer tokens, and need more graphs.
_SIZES_OF_TOKENS, _SIZES_OF_TRAINED = 8, 2
_LEAST_TOKENS, _LEAST_TRAINED, _LEAST_LONGEST = 64, 32, 1024


def shape_of(item: TrainingPack, most_rows: int) -> Shape:
    """The shape that `item` is padded to; it has at least one token more than the pack.

    `most_rows` are those of a step.
    """
    rows = len(item.pack.starts)
    tokens = item.pack.input_ids.shape[1]
    padded = _round_up(tokens + 1, _LEAST_TOKENS, _SIZES_OF_TOKENS)
    longest = max(padded - tokens, *(run.length for run in item.pack.layout.runs))
    return Shape(
        tokens=padded,
        trained=_round_up(len(item.labels), _LEAST_TRAINED, _SIZES_OF_TRAINED),
        rows=min(max(most_rows, rows) + 1, _power_of_two(rows + 1)),
        longest=max(_LEAST_LONGEST, _power_of_two(longest)),
    )


def pad_step(step: Step, most_rows: int, choose: Callable[[Shape], Shape]) -> Step:
    """The same step of passes that have few shapes; `choose` may give a larger one."""
    packs = (
        pad_pack(item, choose(shape_of(item, most_rows)), item.weight / step.weight)
        for item in step.packs
    )
    return replace(step, packs=tuple(packs))


def pad_pack(item: TrainingPack, shape: Shape, share: float) -> TrainingPack:
    """`item` in `shape`; `share` is that of each of its trained tokens in the step's loss."""
    pack, count = item.pack, len(item.labels)
    tokens = pack.input_ids.shape[1]
    added = shape.tokens - tokens
    layout = Layout(
        (*pack.layout.runs, Run(tokens, 1, added)), rows=shape.rows, longest=shape.longest
    )
    padded = replace(
        pack,
        input_ids=pad(pack.input_ids, (0, added)),
        # All at 0: a position beyond those of the pack may be none that the model has.
        position_ids=pad(pack.position_ids, (0, added)),
        layout=layout,
    )
    missing = (0, shape.trained - count)
    return replace(
        item,
        pack=padded,
        # The gradients of a token that is named several times are added up: it must have none.
        positions=pad(item.positions, missing, value=shape.tokens - 1),
        labels=pad(item.labels, missing),
        shares=pad(torch.full((count,), share), missing),
        shape=shape,
    )


def _round_up(count: int, least: int, sizes: int) -> int:
    grain = max(least, (1 << (count.bit_length() - 1)) // sizes)
    return -(-count // grain) * grain


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()

"""The race of models/sampling.py in one reading of the scores, on CUDA.

Written out, the noise of a hundred thousand tokens a row is made in a dozen passes over memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK = 4096
# Programs that keep a device busy: few rows are each shared by several.
_PROGRAMS = 512


@triton.jit
def _mix(bits):
    bits = bits ^ (bits >> 16)
    bits = bits * 0x7FEB352D
    bits = bits ^ (bits >> 15)
    bits = bits * 0x846CA68B
    return bits ^ (bits >> 16)


@triton.jit
def _race(
    scores, keys, highest, winner, size, row_size, part, scale, step,
    PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The token with the highest score x scale + noise of one part of a row, and how high."""
    row, own = tl.program_id(0), tl.program_id(1)
    first = tl.load(keys + 2 * row).to(tl.uint32, bitcast=True)
    second = tl.load(keys + 2 * row + 1).to(tl.uint32, bitcast=True)
    best, best_token = float("-inf"), own * part
    for start in range(own * part, tl.minimum((own + 1) * part, size), BLOCK):
        token = start + tl.arange(0, BLOCK)
        score = tl.load(
            scores + row.to(tl.int64) * row_size + token, mask=token < size, other=float("-inf")
        )
        bits = _mix(_mix(token.to(tl.uint32, bitcast=True) ^ first) + second)
        share = ((bits & 0x7FFFFFFF).to(tl.float32) + 0.5) * step
        # -ln(1 - share): small ones, which win the race, are exact.
        series = share * (1 + share * (0.5 + share * (1.0 / 3 + share * 0.25)))
        waited = tl.where(share < 0.01, series, -tl.log(1 - share))
        total = score.to(tl.float32) * scale - tl.log(waited)
        value, place = tl.max(total, 0, return_indices=True)
        better = value > best
        best = tl.where(better, value, best)
        best_token = tl.where(better, start + place, best_token)
    tl.store(highest + row * PARTS + own, best)
    tl.store(winner + row * PARTS + own, best_token)


def run_race(scores: torch.Tensor, scale: float, keys: torch.Tensor, step: float) -> torch.Tensor:
    """The winner [rows] by `scores` [rows, size] x `scale` plus the noise of `keys` [rows, 2].

    `step` makes shares below 1 of 31 random bits.
    """
    rows, size = scores.shape
    parts = max(1, min(triton.next_power_of_2(triton.cdiv(_PROGRAMS, rows)), size // _BLOCK))
    part = triton.cdiv(triton.cdiv(size, parts), _BLOCK) * _BLOCK
    highest = scores.new_empty(rows, parts, dtype=torch.float32)
    winner = scores.new_empty(rows, parts, dtype=torch.int64)
    scores = scores if scores.stride(-1) == 1 else scores.contiguous()
    _race[(rows, parts)](
        scores, keys, highest, winner, size, scores.stride(0), part, scale, step,
        PARTS=parts, BLOCK=_BLOCK,
    )  # fmt: skip
    return winner.gather(1, highest.argmax(dim=1, keepdim=True))[:, 0]

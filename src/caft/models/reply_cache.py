"""The cache that replies are written with, and how many of them at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch.distributed.fsdp import FSDPModule

from caft.errors import first_line
from caft.kernels.kv_cache import ReplyCache, SharedPrefix
from caft.kernels.memory import compiles_kernels, free_device_memory, is_out_of_memory
from caft.kernels.packed_attention import runs_alone
from caft.kernels.packing import compute_prefix, pack_rows, packed_logits
from caft.kernels.row_cache import RowCache
from caft.kernels.token_steps import step_logits
from caft.kernels.trial import TrialRows, distance, draw_trial, most_by_rounding
from caft.protocols import CausalLM

log = logging.getLogger(__name__)
# Own tokens of all replies that a CPU writes at once, half of the cap counted: half as many again
# wrote long prompts' replies about a tenth faster and took 40% more memory.
_MOST_CACHED = 8192
# On CUDA: the tokens that a reply first has room for, and the share of free memory for all of them.
_FIRST_ROOM = 512
_SHARE_CACHED = 0.5
# On a model that was tried: whether a RowCache does for it.
_DOES = "caft_row_cache_does"


def make_cache(
    model: CausalLM,
    prefix: SharedPrefix | None,
    expected: Sequence[int],
    most_tokens: int,
    at_once: Callable[[int], None],
) -> ReplyCache | RowCache:
    """Of as many rows as memory is for.

    `expected` are the lengths of the first prompts by row, the longest first, without the prefix
    that all of them share; `most_tokens` is the longest reply. `at_once` gets the number of rows
    before memory is taken for them.
    """
    device = model.device
    if (
        runs_alone(model)
        or not compiles_kernels(device.type)
        or isinstance(model, FSDPModule)  # all processes pass as often, which a graph cannot tell
        or not _row_cache_does(model)
    ):
        if device.type == "cpu":
            expected = _fitting(expected, most_tokens // 2, _MOST_CACHED)
        at_once(len(expected))
        return ReplyCache(prefix or SharedPrefix(), expected, device)
    # A token's keys and values in all layers.
    one = prefix or compute_prefix(model, [0], device)
    size = sum(part.nbytes for of in (one.keys, one.values) for part in of.values())
    columns = _SHARE_CACHED * free_device_memory(device) * one.length / size
    room = min(most_tokens, _FIRST_ROOM)
    expected = _fitting(expected, room, int(columns))
    at_once(len(expected))
    return RowCache(prefix or SharedPrefix(), expected, room, device)


def _row_cache_does(model: CausalLM) -> bool:
    """Whether a RowCache computes what a ReplyCache does, on this device; tried once a model."""
    if not hasattr(model, _DOES):
        reason = _why_not_by_rows(model)
        if reason is not None:
            log.info("replies are written without kernels of our own, more slowly: %s", reason)
        setattr(model, _DOES, reason is None)
    return bool(getattr(model, _DOES))


def _why_not_by_rows(model: CausalLM) -> str | None:
    trial, device = draw_trial(model), model.device
    shared = compute_prefix(model, trial.prefix, device)
    lengths = [len(row) for row in trial.own]
    try:
        found = _try_step(model, trial, RowCache(shared, lengths, 1, device))
    except Exception as error:  # Triton has many; it needs a C compiler, and memory on the chip
        if is_out_of_memory(error):
            raise
        return first_line(error)
    expected = _try_step(model, trial, ReplyCache(shared, lengths, device))
    if not expected.isfinite().all():
        return None  # writing names the question
    same = distance(found, expected) <= most_by_rounding(model, expected)
    return None if same else "their logits are others"


def _try_step(model: CausalLM, trial: TrialRows, cache: ReplyCache | RowCache) -> torch.Tensor:
    """The logits behind the next token of every row."""
    new = cache.admit([[row] for row in range(len(trial.own))], [len(row) for row in trial.own])
    pack = pack_rows(trial.own, cache.prefix.length).to(model.device)
    layout = replace(pack.layout, prefix=cache.prefix, keep=new)
    packed_logits(model, replace(pack, layout=layout), torch.tensor([0]))
    cache.begin_step()
    return step_logits(model, cache, torch.tensor(trial.following, device=model.device))


def _fitting(lengths: Sequence[int], room: int, most: int) -> list[int]:
    """As many of these own lengths of prompts, at least one, as fit with their room for replies."""
    totals = accumulate(length + room for length in lengths)
    return [length for length, total in zip(lengths, totals, strict=True) if total <= most] or [
        *lengths[:1]
    ]

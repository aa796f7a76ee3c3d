"""Many rows in one forward pass, without padding and without seeing each other.

Rows are laid end to end in a single sequence; positions start again in each, and attention runs
inside each row only. Rows of equal length are adjacent, so that their attention is one batched
product. A prefix that all rows share (instruction, solved examples) is computed once and its keys
and values are read by every row. Rows of a pack that share more than that (a system turn that names
their subject) form a group: its prefix comes before them in the pack and is run once for all of
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch

from caft.kernels.kv_cache import SharedPrefix
from caft.kernels.packed_attention import Layout, Run, runs_alone
from caft.protocols import CausalLM


@dataclass(frozen=True, slots=True)
class Pack:
    """Rows laid end to end. `input_ids` and `position_ids` are [1, tokens]; `starts` by row."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    layout: Layout
    starts: tuple[int, ...]

    def to(self, device: torch.device) -> Pack:
        """The same pack with its ids on `device`."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
        )


def plan_packs(
    lengths: Sequence[int], most_tokens: int, most_rows: int = 256, switch: int | None = None
) -> list[list[int]]:
    """Row numbers by pack, each pack in order of length and within the budget of tokens.

    A row longer than the budget gets a pack of its own. Sorting makes rows of equal length
    neighbours; ties keep their order, so the plan is a pure function of the lengths. No pack has
    rows of both sides of a model's `switch` (rotary.py).
    """
    packs: list[list[int]] = []
    left = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        crosses = switch is not None and packs and lengths[packs[-1][-1]] <= switch < lengths[row]
        if not packs or crosses or lengths[row] > left or len(packs[-1]) == most_rows:
            packs.append([])
            left = most_tokens
        packs[-1].append(row)
        left -= lengths[row]
    return packs


def pack_rows(rows: Sequence[Sequence[int]], first_position: int = 0) -> Pack:
    """Lay token rows, sorted by length, end to end; each starts at `first_position`."""
    lengths = [len(row) for row in rows]
    assert lengths == sorted(lengths), "rows of a pack come in order of length"
    starts, runs, start = [], [], 0
    for length, members in groupby(lengths):
        count = len(list(members))
        runs.append(Run(start, count, length))
        starts += [start + index * length for index in range(count)]
        start += count * length
    positions = [first_position + index for length in lengths for index in range(length)]
    return Pack(
        input_ids=torch.tensor([[token for row in rows for token in row]]),
        position_ids=torch.tensor([positions]),
        layout=Layout(tuple(runs)),
        starts=tuple(starts),
    )


def pack_groups(
    groups: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], first_position: int = 0
) -> Pack:
    """Lay groups end to end: the tokens of a prefix, then what each of its rows adds, by length.

    A prefix may be empty. `starts` are where the rows' own tokens start, group by group.
    """
    pieces, runs, starts, offset = [], [], [], 0
    for prefix_ids, rows in groups:
        prefix = Run(offset, 1, len(prefix_ids)) if prefix_ids else None
        if prefix is not None:
            pieces.append(pack_rows([prefix_ids], first_position))
            runs.append(prefix)
            offset += prefix.length
        piece = pack_rows(rows, first_position + len(prefix_ids))
        pieces.append(piece)
        runs += [replace(run, start=run.start + offset, prefix=prefix) for run in piece.layout.runs]
        starts += [start + offset for start in piece.starts]
        offset += piece.input_ids.shape[1]
    return Pack(
        input_ids=torch.cat([piece.input_ids for piece in pieces], dim=1),
        position_ids=torch.cat([piece.position_ids for piece in pieces], dim=1),
        layout=Layout(tuple(runs)),
        starts=tuple(starts),
    )


def packed_logits(model: CausalLM, pack: Pack, positions: torch.Tensor) -> torch.Tensor:
    """Logits [len(positions), vocabulary] at the given tokens of the pack, and nowhere else."""
    if runs_alone(model):
        return _logits_row_by_row(model, pack, positions)
    positions = positions.to(pack.input_ids.device)
    with _last_mlp_at(model, positions, pack.input_ids.shape[1]):
        output = model(
            input_ids=pack.input_ids,
            position_ids=pack.position_ids,
            use_cache=False,
            logits_to_keep=positions,
            layout=pack.layout,
        )
    return output.logits[0]


@contextmanager
def _last_mlp_at(model: CausalLM, positions: torch.Tensor, tokens: int) -> Iterator[None]:
    """Run the last layer's MLP at `positions` of `tokens` only: the others are not read."""
    layers = getattr(model.get_decoder(), "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers is not None else None
    if mlp is None or len(positions) == tokens:
        yield
        return

    def scatter(output: torch.Tensor | tuple[torch.Tensor, ...]) -> Any:
        if isinstance(output, tuple):  # of gpt-oss, with what its router chose
            return scatter(output[0]), *output[1:]
        return output.new_zeros(1, tokens, output.shape[-1]).index_copy_(1, positions, output)

    hooks = (
        mlp.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, positions],)),
        mlp.register_forward_hook(lambda _, __, output: scatter(output)),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def compute_prefix(model: CausalLM, ids: Sequence[int], device: torch.device) -> SharedPrefix:
    """Keys and values of a shared prefix, to be read by every row packed with it."""
    captured = SharedPrefix(length=len(ids), ids=tuple(ids))
    if runs_alone(model):
        return captured
    model(
        input_ids=torch.tensor([list(ids)], device=device),
        position_ids=torch.arange(len(ids), device=device)[None],
        use_cache=False,
        # Positions and not their number: Gemma 4 would cut its last layers' tokens to that many.
        logits_to_keep=torch.tensor([len(ids) - 1], device=device),
        layout=Layout((Run(0, 1, len(ids)),), keep=captured),
    )
    return captured


def _logits_row_by_row(model: CausalLM, pack: Pack, positions: torch.Tensor) -> torch.Tensor:
    """The same by the model's own attention: a pass a row, whose prefixes are run again."""
    ids, found = pack.input_ids[0], []
    layout, wanted = pack.layout, positions.to(ids.device)
    shared = ids.new_tensor(layout.prefix.ids if layout.prefix else ())
    for run in layout.runs:
        before = ids[run.prefix.start : run.prefix.stop] if run.prefix else ids[:0]
        for start in range(run.start, run.stop, run.length):
            stop = start + run.length
            own = wanted[(wanted >= start) & (wanted < stop)] - start
            if len(own):
                row = torch.cat([shared, before, ids[start:stop]])
                logits = model(input_ids=row[None], use_cache=False).logits[0]
                found.append(logits[own + len(row) - run.length])
    return torch.cat(found)

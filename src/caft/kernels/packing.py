"""Many rows in one forward pass, without padding and without seeing each other.

Rows are laid end to end in a single sequence; positions start anew in each, and attention runs
inside each row only. Rows of equal length lie side by side, so that their attention is one
batched product. A prefix that all rows share (instruction, solved examples) is computed once and
its keys and values are read by every row. Rows of a pack that share more than that (a system turn
that names their subject) have it as a stem: it lies before them in the pack and is run once for
all of them.

The attention function is registered with transformers under a name of its own. For a name
without a mask function transformers builds no mask at all, which is what packing wants, and what
makes it WRONG for padded batches: generation runs with the model's ordinary attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, takewhile
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from caft.errors import UserError
from caft.kernels.attention import (
    KeysAndValues,
    attend_short_rows,
    attend_trained_rows,
    put_before,
)
from caft.kernels.kv_cache import NewRows, ReplyCache, SharedPrefix
from caft.kernels.rotary import lean_rotary
from caft.kernels.varlen import Sequences, attend_at_once, can_attend_at_once, plan_sequences

PACKED_ATTENTION = "caft_packed"
# Where experts are chosen token by token, products come in other shapes beside another row.
_LEAST_FELT = 1e-4
# What some models hand to their attention, and ours cannot do.
_NOT_HERE = {"s_aux": "sink", "softcap": "soft cap"}


@dataclass(frozen=True, slots=True)
class Run:
    """`count` rows of `length` tokens each, side by side from token `start` on.

    All of them read the tokens of `stem`, a run of one, before their own.
    """

    start: int
    count: int
    length: int
    stem: Run | None = None

    @property
    def tokens(self) -> int:
        """Of all its rows."""
        return self.count * self.length

    @property
    def stop(self) -> int:
        """The token behind its last."""
        return self.start + self.tokens


@dataclass(frozen=True)
class Layout:
    """Where the rows of a packed sequence lie: its runs, end to end.

    Keys and values are handed to `keep` where they are wanted later: those of a shared prefix,
    or of prompts that are going to be replied to. With `replies` the sequence is the newest
    token of every reply instead, and each looks back over its own row.
    """

    runs: tuple[Run, ...]
    prefix: SharedPrefix | None = None
    keep: SharedPrefix | NewRows | None = None
    replies: ReplyCache | None = None
    _sequences: dict[torch.device, tuple[Sequences, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def groups(self) -> tuple[tuple[Run, ...], ...]:
        """Runs that follow each other behind the same stem, from one length to its double."""
        groups: list[list[Run]] = []
        for run in self.runs:
            first = groups[-1][0] if groups else None
            if (
                first is None
                or run.stem != first.stem
                or not (groups[-1][-1].length <= run.length <= 2 * first.length)
            ):
                groups.append([])
            groups[-1].append(run)
        return tuple(map(tuple, groups))

    def sequences(self, device: torch.device) -> tuple[Sequences, ...]:
        """Its rows for `attend_at_once`, planned once for all layers of a pass."""
        if device not in self._sequences:
            rows = [
                (
                    range(0) if run.stem is None else range(run.stem.start, run.stem.stop),
                    range(start, start + run.length),
                )
                for run in self.runs
                for start in range(run.start, run.stop, run.length)
            ]
            prefix = 0 if self.prefix is None else self.prefix.length
            self._sequences[device] = plan_sequences(rows, prefix, device)
        return self._sequences[device]


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


def plan_packs(lengths: Sequence[int], most_tokens: int, most_rows: int = 256) -> list[list[int]]:
    """Row numbers by pack, each pack in order of length and within the budget of tokens.

    A row longer than the budget gets a pack of its own. Sorting makes rows of equal length
    neighbours; ties keep their order, so the plan is a pure function of the lengths.
    """
    packs: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not packs or lengths[row] > room or len(packs[-1]) == most_rows:
            packs.append([])
            room = most_tokens
        packs[-1].append(row)
        room -= lengths[row]
    return packs


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows start with; at least one token of every row is left over."""
    if len(rows) < 2:
        return 0
    # All rows agree as far as the first and the last of them in dictionary order do.
    ordered = sorted(tuple(row) for row in rows)
    first, last = ordered[0], ordered[-1]
    limit = min(len(row) for row in rows) - 1
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return min(limit, sum(1 for _ in same))


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


def pack_behind_stems(
    bundles: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], first_position: int = 0
) -> Pack:
    """Lay bundles end to end: a stem's tokens, then what each of its rows adds, by length.

    A stem may be empty. `starts` are where the rows' own tokens start, bundle by bundle.
    """
    pieces, runs, starts, offset = [], [], [], 0
    for stem_ids, rows in bundles:
        stem = Run(offset, 1, len(stem_ids)) if stem_ids else None
        if stem is not None:
            pieces.append(pack_rows([stem_ids], first_position))
            runs.append(stem)
            offset += stem.length
        piece = pack_rows(rows, first_position + len(stem_ids))
        pieces.append(piece)
        runs += [replace(run, start=run.start + offset, stem=stem) for run in piece.layout.runs]
        starts += [start + offset for start in piece.starts]
        offset += piece.input_ids.shape[1]
    return Pack(
        input_ids=torch.cat([piece.input_ids for piece in pieces], dim=1),
        position_ids=torch.cat([piece.position_ids for piece in pieces], dim=1),
        layout=Layout(tuple(runs)),
        starts=tuple(starts),
    )


def packed_logits(model: Any, pack: Pack, positions: torch.Tensor) -> torch.Tensor:
    """Logits [len(positions), vocabulary] at the given tokens of the pack, and nowhere else."""
    positions = positions.to(pack.input_ids.device)
    with _last_mlp_at(model, positions, pack.input_ids.shape[1]):
        output = model(
            input_ids=pack.input_ids,
            position_ids=pack.position_ids,
            use_cache=False,
            logits_to_keep=positions,
            layout=pack.layout,
        )
    logits: torch.Tensor = output.logits[0]
    return logits


@contextmanager
def _last_mlp_at(model: Any, positions: torch.Tensor, tokens: int) -> Iterator[None]:
    """Run the last layer's MLP at `positions` of `tokens` only: nobody reads the others."""
    layers = getattr(model.get_decoder(), "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers is not None else None
    if mlp is None or len(positions) == tokens:
        yield
        return

    def scatter(said: torch.Tensor) -> torch.Tensor:
        return said.new_zeros(1, tokens, said.shape[-1]).index_copy_(1, positions, said)

    hooks = (
        mlp.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, positions],)),
        mlp.register_forward_hook(lambda _, __, said: scatter(said)),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def compute_prefix(model: Any, ids: Sequence[int], device: torch.device) -> SharedPrefix:
    """Keys and values of a shared prefix, to be read by every row packed with it."""
    captured = SharedPrefix(length=len(ids))
    model(
        input_ids=torch.tensor([list(ids)], device=device),
        position_ids=torch.arange(len(ids), device=device)[None],
        use_cache=False,
        logits_to_keep=1,
        layout=Layout((Run(0, 1, len(ids)),), keep=captured),
    )
    return captured


def refuse_unpackable(model: Any, name: str) -> None:
    """UserError where a row of a pack feels its neighbour, or the model knows no packs.

    Attention is ours to keep inside a row; a convolution or a state that runs along the sequence
    (LFM2, Mamba, linear attention) is not. Two passes of four tokens tell.
    """
    first, neighbour, other = [1, 2], [3, 4], [5, 6]
    try:
        with torch.inference_mode(), packed_attention(model):
            alike = [
                packed_logits(
                    model, pack_rows([before, first]).to(model.device), torch.tensor([2, 3])
                )
                for before in (neighbour, other)
            ]
    except TypeError as error:
        raise UserError(f"{name} cannot run several rows at once: {error}") from error
    said, said_again = (logits.float() for logits in alike)
    if not torch.isfinite(said).all():
        return  # scoring names the question
    felt = float((said - said_again).norm() / said.norm())
    if felt > max(4 * torch.finfo(alike[0].dtype).eps, _LEAST_FELT):
        raise UserError(
            f"{name} lets a row of a pack feel its neighbour, as models with convolutions, "
            "recurrent states or linear attention do, and its scores and tuning would be wrong; "
            "give a model that has attention only"
        )


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Switch `model` to packed attention and what else is faster than usual, and back."""
    ordinary = model.config._attn_implementation
    _set_attention(model, PACKED_ATTENTION)
    try:
        with lean_rotary(model):
            yield
    finally:
        _set_attention(model, ordinary)


def _set_attention(model: Any, name: str) -> None:
    if model.config.sub_configs:
        model.set_attn_implementation(name)
    else:
        # That walks through all layers, milliseconds in every pass; they read this config.
        model.config._attn_implementation = name


def attend_within_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each row. Query [1, heads, tokens, size]; key and value likewise.

    Returns [1, tokens, heads, size], as transformers expects of an attention function. TypeError
    where the model wants more of its attention than that.
    """
    if unknown := [name for name in _NOT_HERE if more.get(name) is not None]:
        raise TypeError(f"its attention has a {_NOT_HERE[unknown[0]]}, which packs do not know")
    layer = module.layer_idx
    assert attention_mask is None
    assert isinstance(layer, int)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout.replies is not None:
        return layout.replies.attend(
            layer, query, key, value, scaling=scale, sliding_window=sliding_window
        ), None
    if layout.keep is not None:
        layout.keep.keep(layer, key, value)
    if dropout == 0 and can_attend_at_once(query):
        keys, values = key, value
        if layout.prefix is not None and layout.prefix.length:
            keys = torch.cat([layout.prefix.keys[layer], key], dim=2)
            values = torch.cat([layout.prefix.values[layer], value], dim=2)
        return attend_at_once(
            query.squeeze(0),
            keys.squeeze(0),
            values.squeeze(0),
            layout.sequences(query.device),
            scaling=scale,
            window=sliding_window,
        )[None], None
    written_out = _pays_written_out(query) and dropout == 0
    groups = layout.groups if written_out else tuple((run,) for run in layout.runs)
    sizes = [sum(run.tokens for run in group) for group in groups]
    # All groups at once: on the way back their gradients are then laid end to end. Each by itself
    # would have gradients of all tokens, nearly all of them zero, to be added up.
    # squeeze, not [0]: on the way back that would fill and copy whole tensors.
    split = (torch.split(part.squeeze(0), sizes, dim=1) for part in (query, key, value))
    parts = zip(*split, strict=True)
    attended = []
    for group, (queries, keys, values) in zip(groups, parts, strict=True):
        before = _read_before(group[0].stem, layout, layer, key, value)
        shared = 0 if before is None else before[0].shape[2]
        fits = sliding_window is None or group[-1].length + shared <= sliding_window
        lengths = [run.length for run in group for _ in range(run.count)]
        if written_out and fits and not torch.is_grad_enabled():
            attended.append(attend_short_rows(queries, keys, values, lengths, before, scale))
        elif written_out and fits and before is None:
            attended.append(attend_trained_rows(queries, keys, values, lengths, scale))
        else:
            attended += _attend_fused(
                group,
                queries,
                keys,
                values,
                before,
                scaling=scale,
                dropout=dropout,
                window=sliding_window,
            )
    return torch.cat(attended)[None], None


def _attend_fused(
    group: tuple[Run, ...],
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    before: KeysAndValues | None,
    *,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Iterator[torch.Tensor]:
    """What the tokens of every run of a group say, [tokens, heads, size], by torch's own kernel."""
    parts = [_split_runs(part, group) for part in (query, keys, values)]
    for run, own, its_keys, its_values in zip(group, *parts, strict=True):
        reach, seen = run.length, (its_keys, its_values)
        if before is not None:
            seen = put_before(before[0], its_keys), put_before(before[1], its_values)
            reach += before[0].shape[2]
        mask = _mask(run.length, reach, window, own.device)
        attended = scaled_dot_product_attention(
            own,
            *seen,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=own.shape[1] != keys.shape[0],
        )
        yield attended.transpose(1, 2).flatten(0, 1)


def _pays_written_out(query: torch.Tensor) -> bool:
    # In float32 the fused kernel is the faster one.
    return query.device.type == "cpu" and query.dtype == torch.bfloat16


def _read_before(
    stem: Run | None, layout: Layout, layer: int, key: torch.Tensor, value: torch.Tensor
) -> KeysAndValues | None:
    """Keys and values [1, kv_heads, tokens, size] that rows behind `stem` read before their own.

    `key` and `value` are those of the pack itself.
    """
    before = []
    if layout.prefix is not None and layout.prefix.length:
        before.append((layout.prefix.keys[layer], layout.prefix.values[layer]))
    if stem is not None:
        inside = slice(stem.start, stem.stop)
        before.append((key[:, :, inside], value[:, :, inside]))
    if len(before) < 2:
        return before[0] if before else None
    keys, values = (torch.cat(parts, dim=2) for parts in zip(*before, strict=True))
    return keys, values


def _split_runs(tensor: torch.Tensor, runs: Sequence[Run]) -> list[torch.Tensor]:
    """[heads, tokens, size] -> [count, heads, length, size] of every run, without a copy."""
    pieces = torch.split(tensor, [run.tokens for run in runs], dim=1)
    return [
        piece.view(piece.shape[0], run.count, run.length, piece.shape[2]).transpose(0, 1)
        for run, piece in zip(runs, pieces, strict=True)
    ]


def _mask(
    length: int, reach: int, sliding_window: int | None, device: torch.device
) -> torch.Tensor | None:
    """Who sees whom, [length, reach]; None where plain causal attention says it all."""
    window = sliding_window if sliding_window is not None else reach
    if length == reach <= window:
        return None
    own = torch.arange(reach - length, reach, device=device)[:, None]
    seen = torch.arange(reach, device=device)[None, :]
    return (seen <= own) & (seen > own - window)


AttentionInterface.register(PACKED_ATTENTION, attend_within_rows)

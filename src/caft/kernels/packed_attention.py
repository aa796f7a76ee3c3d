"""The layout of a pack's rows, and causal attention inside each row.

The attention function is registered with transformers under a name of its own. For a name without
a mask function transformers builds no mask at all. Packing needs that, but it makes this function
WRONG for padded batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from caft.kernels.attention import (
    Extras,
    Heads,
    KeysAndValues,
    attend_plainly,
    attend_short_rows,
    attend_trained_rows,
    put_before,
)
from caft.kernels.kv_cache import NewRows, ReplyCache, SharedPrefix
from caft.kernels.rotary import fused_rotary
from caft.kernels.row_cache import JoiningRows, RowCache
from caft.kernels.varlen import Sequences, attend_at_once, can_attend_at_once, plan_sequences
from caft.protocols import CausalLM

PACKED_ATTENTION = "caft_packed"
_ALONE = "caft_runs_alone"


@dataclass(frozen=True, slots=True)
class Run:
    """`count` rows of `length` tokens each, side by side from token `start` on.

    All of them read the tokens of `prefix`, a run of one, before their own.
    """

    start: int
    count: int
    length: int
    prefix: Run | None = None

    @property
    def tokens(self) -> int:
        """Of all its rows."""
        return self.count * self.length

    @property
    def stop(self) -> int:
        """The position after its last token."""
        return self.start + self.tokens


@dataclass(frozen=True)
class Layout:
    """The layout of a packed sequence: its runs, end to end.

    Every row reads `prefix` first. Keys and values are given to `keep` if they are needed later:
    those of a shared prefix, or of prompts before their replies. With `replies` the sequence is the
    newest token of every reply instead, and each looks back over its own row. Where attention is
    one call, it is one for at least so many `rows`, of which those that are missing are empty, and
    of the `longest`: graphs are recorded for numbers of rows and lengths.
    """

    runs: tuple[Run, ...]
    prefix: SharedPrefix | None = None
    keep: SharedPrefix | NewRows | JoiningRows | None = None
    replies: ReplyCache | RowCache | None = None
    rows: int = 0
    longest: int = 0
    _sequences: dict[torch.device, tuple[Sequences, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def groups(self) -> tuple[tuple[Run, ...], ...]:
        """Neighbouring runs with the same prefix, from one length to its double."""
        groups: list[list[Run]] = []
        for run in self.runs:
            first, last = (groups[-1][0], groups[-1][-1]) if groups else (run, run)
            fits = last.length <= run.length <= 2 * first.length and run.prefix == first.prefix
            if groups and fits:
                groups[-1].append(run)
            else:
                groups.append([run])
        return tuple(map(tuple, groups))

    def sequences(self, device: torch.device) -> tuple[Sequences, ...]:
        """Its rows for `attend_at_once`, planned once for all layers of a pass."""
        if device not in self._sequences:
            rows = [
                (
                    range(0) if run.prefix is None else range(run.prefix.start, run.prefix.stop),
                    range(start, start + run.length),
                )
                for run in self.runs
                for start in range(run.start, run.stop, run.length)
            ]
            rows += [(range(0), range(0))] * (self.rows - len(rows))
            prefix = 0 if self.prefix is None else self.prefix.length
            self._sequences[device] = plan_sequences(rows, prefix, device, self.longest)
        return self._sequences[device]

    def without_runs(self, device: torch.device) -> Layout:
        """One that has copies of its sequences on `device` and nothing else.

        Only attention of all rows in one call can read it; any other fails.
        """
        copy = Layout(())
        copy._sequences[device] = tuple(
            replace(each, queries=each.queries.clone(), keys=each.keys.clone())
            for each in self.sequences(device)
        )
        return copy


def runs_alone(model: CausalLM) -> bool:
    """Whether `model` runs its rows one by one, with its own attention."""
    return bool(getattr(model, _ALONE, False))


def run_alone(model: CausalLM) -> None:
    """From now on, and with adapters around it, `model` runs its rows one by one."""
    setattr(model, _ALONE, True)


@contextmanager
def packed_attention(model: CausalLM) -> Iterator[None]:
    """Switch `model` to packed attention and fused rotary embedding, and back.

    A model that runs its rows one by one keeps what it has.
    """
    with nullcontext() if runs_alone(model) else trial_attention(model):
        yield


@contextmanager
def trial_attention(model: CausalLM) -> Iterator[None]:
    """The same for any model, whether it can run packs or not."""
    ordinary = model.config._attn_implementation
    _set_attention(model, PACKED_ATTENTION)
    try:
        with fused_rotary(model):
            yield
    finally:
        _set_attention(model, ordinary)


@contextmanager
def watched_windows() -> Iterator[set[int]]:
    """The layers whose attention is given a window in the body."""
    layers: set[int] = set()

    def attend(module: Any, *heads: Any, **given: Any) -> tuple[torch.Tensor, None]:
        if given.get("sliding_window") is not None:
            layers.add(module.layer_idx)
        return attend_within_rows(module, *heads, **given)

    AttentionInterface.register(PACKED_ATTENTION, attend)
    try:
        yield layers
    finally:
        AttentionInterface.register(PACKED_ATTENTION, attend_within_rows)


def _set_attention(model: CausalLM, name: str) -> None:
    if model.config.sub_configs:
        model.set_attn_implementation(name)
    else:
        # The model's own switch walks through all layers, milliseconds in every pass; they read
        # this config.
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
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_others: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each row. Query [1, heads, tokens, size]; key and value likewise.

    Returns [1, tokens, heads, size], as transformers expects of an attention function. `softcap` is
    Gemma 2's, `s_aux` [heads] the sinks of gpt-oss: with one of them, plain products are taken.
    """
    extras = Extras(softcap, s_aux) if softcap is not None or s_aux is not None else None
    layer = module.layer_idx
    if attention_mask is not None or not isinstance(layer, int):
        raise ValueError("a pack's attention has no mask, and layers have numbers")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if key.shape[-1] != value.shape[-1]:  # of DeepSeek: kernels and caches have one size for both
        wide = max(key.shape[-1], value.shape[-1])
        asked, keys, values = (
            pad(part, (0, wide - part.shape[-1])) for part in (query, key, value)
        )
        attended, _ = attend_within_rows(
            module, asked, keys, values, attention_mask, layout=layout, scaling=scale,
            dropout=dropout, sliding_window=sliding_window, softcap=softcap, s_aux=s_aux,
        )  # fmt: skip
        return attended[..., : value.shape[-1]], None
    if layout.replies is not None:
        return layout.replies.attend(
            layer, query, key, value, scaling=scale, sliding_window=sliding_window, extras=extras
        ), None
    if layout.keep is not None:
        layout.keep.keep(layer, key, value)
    if dropout == 0 and extras is None and can_attend_at_once(query):
        before = _read_before(None, layout, layer, (key, value))
        if before is not None:
            key, value = map(put_before, before, (key, value))
        attended = attend_at_once(
            (query.squeeze(0), key.squeeze(0), value.squeeze(0)),
            layout.sequences(query.device),
            scaling=scale,
            window=sliding_window,
        )
        return attended[None], None
    attend = partial(
        scaled_dot_product_attention if extras is None else partial(attend_plainly, extras),
        dropout_p=dropout,
        scale=scale,
    )
    short_rows = dropout == 0 and extras is None
    parts = _attend_groups(
        layer, (query, key, value), layout, attend, short_rows=short_rows, window=sliding_window
    )
    return torch.cat(list(parts))[None], None


def _attend_groups(
    layer: int,
    tokens: Heads,
    layout: Layout,
    attend: partial[torch.Tensor],
    *,
    short_rows: bool,
    window: int | None,
) -> Iterator[torch.Tensor]:
    """The output of every group of runs, [tokens, heads, size]."""
    query, key, value = tokens
    scaling: float = attend.keywords["scale"]
    # In float32 the fused kernel is the faster one.
    short_rows = short_rows and query.device.type == "cpu" and query.dtype == torch.bfloat16
    groups = layout.groups if short_rows else tuple((run,) for run in layout.runs)
    sizes = [sum(run.tokens for run in group) for group in groups]
    # All groups at once: in the backward pass their gradients are then joined end to end. Separate
    # groups would each have gradients of all tokens, nearly all of them zero, to be added up.
    # squeeze, not [0]: its backward pass would fill and copy whole tensors.
    split = (torch.split(part.squeeze(0), sizes, dim=1) for part in tokens)
    for group, queries, keys, values in zip(groups, *split, strict=True):
        heads = queries, keys, values
        before = _read_before(group[0].prefix, layout, layer, (key, value))
        reach = group[-1].length + (0 if before is None else before[0].shape[2])
        lengths = [run.length for run in group for _ in range(run.count)]
        written_out = short_rows and (window is None or reach <= window)
        if written_out and not torch.is_grad_enabled():
            yield attend_short_rows(heads, lengths, before, scaling)
        elif written_out and before is None:
            yield attend_trained_rows(heads, lengths, scaling)
        else:
            yield from _attend_runs(group, heads, before, attend, window=window)


def _attend_runs(
    group: tuple[Run, ...],
    tokens: Heads,
    before: KeysAndValues | None,
    attend: partial[torch.Tensor],
    *,
    window: int | None,
) -> Iterator[torch.Tensor]:
    """The output of every run of a group, [tokens, heads, size], by torch's kernel or plainly."""
    parts = [_split_runs(part, group) for part in tokens]
    for run, query, *own in zip(group, *parts, strict=True):
        keys, values = own if before is None else map(put_before, before, own)
        mask = _mask(run.length, keys.shape[2], window, query.device)
        attended = attend(
            query,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        yield attended.transpose(1, 2).flatten(0, 1)


def _read_before(
    prefix: Run | None, layout: Layout, layer: int, own: KeysAndValues
) -> KeysAndValues | None:
    """Keys and values [1, kv_heads, tokens, size] that rows after `prefix` read before their own.

    `own` are those of the pack itself.
    """
    before = []
    if layout.prefix is not None and layout.prefix.length:
        before.append((layout.prefix.keys[layer], layout.prefix.values[layer]))
    if prefix is not None:
        inside = slice(prefix.start, prefix.stop)
        before.append((own[0][:, :, inside], own[1][:, :, inside]))
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
    """The attention mask, [length, reach]; None for plain causal attention."""
    window = sliding_window if sliding_window is not None else reach
    if length == reach <= window:
        return None
    own = torch.arange(reach - length, reach, device=device)[:, None]
    seen = torch.arange(reach, device=device)[None, :]
    return (seen <= own) & (seen > own - window)


AttentionInterface.register(PACKED_ATTENTION, attend_within_rows)

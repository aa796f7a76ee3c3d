"""The causal LM under Lightning: packs of prompts in, next-token estimates out."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch

from caft.kernels.kv_cache import SharedPrefix
from caft.kernels.layers import layers_of
from caft.kernels.memory import memory_may_end
from caft.kernels.packed_attention import packed_attention, runs_alone
from caft.kernels.packing import Pack, compute_prefix, pack_groups, packed_logits
from caft.kernels.shared_prefixes import (
    SHORTEST_PREFIX,
    PrefixGroup,
    common_prefix,
    find_prefix_groups,
    plan_grouped_packs,
)
from caft.models.estimates import estimate_complexity
from caft.models.generation import logits_not_finite
from caft.protocols import CausalLM
from caft.score.prepare import ScoringRow
from caft.trainers.watching import PredictingModule, watch_layers

# Bounds the logits of a pack, whatever the vocabulary: 50 MB of bfloat16 for 200,000 tokens.
_MOST_ROWS = 128


@dataclass(frozen=True, slots=True)
class ScoringPack:
    """Rows that share one forward pass, group by group, after the same `prefix` tokens.

    `groups` are pairs: how many tokens its rows share, and how many rows they are. Tensors are made
    when the pack's turn comes: those of all packs would be most of the memory of scoring.
    """

    rows: tuple[ScoringRow, ...]
    groups: tuple[tuple[int, int], ...]
    prefix: int

    @property
    def question_ids(self) -> tuple[str, ...]:
        """The question ids of the rows, in their order."""
        return tuple(row.question_id for row in self.rows)

    def lay_out(self) -> tuple[Pack, torch.Tensor]:
        """The pack, and the answer positions of its rows in it, [rows]."""
        left = iter([row.prompt_ids[self.prefix :] for row in self.rows])
        groups, own_lengths = [], []
        for shared, count in self.groups:
            members = list(islice(left, count))
            groups.append((members[0][:shared], [ids[shared:] for ids in members]))
            own_lengths += [len(ids) - shared for ids in members]
        pack = pack_groups(groups, first_position=self.prefix)
        return pack, torch.tensor(pack.starts) + torch.tensor(own_lengths) - 1


class NextToken(NamedTuple):
    """The result of one forward pass for one question.

    `label_log_p` is ln p of every label over the full vocabulary; `hidden` is the state that
    `encode_hidden` writes, empty where nobody asked for it. Not frozen like other records:
    Lightning rebuilds what `predict_step` returns, and refuses frozen dataclasses.
    """

    question_id: str
    token: int
    estimates: dict[str, float | None]
    label_log_p: tuple[float, ...] = ()
    hidden: str = ""


class ScoringModule(PredictingModule):
    """Wraps the student for `Trainer.predict`; the prefix that all rows share is run once.

    With `keeps_hidden`, results have the hidden state of the answer position.
    """

    def __init__(
        self, model: CausalLM, prefix_ids: Sequence[int], *, keeps_hidden: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.keeps_hidden = keeps_hidden
        self.prefix_ids = tuple(prefix_ids)
        self._prefix: SharedPrefix | None = None
        self._rows = 0

    def watching(self) -> AbstractContextManager[None]:
        """A pass may take minutes: `moved` is told behind every layer."""
        return watch_layers(self.model, lambda share: self.moved(share * self._rows))

    def transfer_batch_to_device(
        self, batch: ScoringPack, device: torch.device, dataloader_idx: int
    ) -> ScoringPack:
        """Lightning's hook: a pack's tensors are made in `predict_step`."""
        return batch

    def predict_step(self, batch: ScoringPack, batch_idx: int) -> list[NextToken]:
        """One forward pass; the logits of the answer positions only, [rows, vocabulary]."""
        pack, positions = batch.lay_out()
        self._rows = len(batch.rows)
        explain = partial(_explain_memory, pack.input_ids.shape[1])
        with memory_may_end(explain), packed_attention(self.model):
            pack = pack.to(self.device)
            after_prefix = self._read_prefix(pack) if batch.prefix else pack
            with hidden_states(self.model, wanted=self.keeps_hidden) as hidden:
                logits = packed_logits(self.model, after_prefix, positions)
        # isfinite of them all would copy the logits twice.
        ends = torch.stack(logits.aminmax(dim=-1))
        for row, finite in zip(batch.rows, torch.isfinite(ends).all(0).tolist(), strict=True):
            if not finite:
                raise logits_not_finite(row.question_id)
        estimated = estimate_complexity(logits, [row.label_ids for row in batch.rows])
        # A row that is run alone ends with its answer position.
        places = [-1] if runs_alone(self.model) else positions
        kept = (encode_hidden(states[place]) for states in hidden for place in places)
        return [
            NextToken(row.question_id, *estimates, hidden=next(kept, ""))
            for row, estimates in zip(batch.rows, estimated, strict=True)
        ]

    def _read_prefix(self, pack: Pack) -> Pack:
        if self._prefix is None:
            self._prefix = compute_prefix(self.model, self.prefix_ids, self.device)
        return replace(pack, layout=replace(pack.layout, prefix=self._prefix))


def plan_scoring(
    rows: Sequence[ScoringRow], most_tokens: int, switch: int | None = None
) -> tuple[tuple[int, ...], list[ScoringPack]]:
    """The prefix that all prompts share, and the packs of what follows it in each.

    Prompts beyond the model's `switch` (kernels/rotary.py) have packs of their own, without it.
    """
    within = [row for row in rows if switch is None or len(row.prompt_ids) <= switch]
    if len(within) < len(rows):
        beyond = [row for row in rows if switch is not None and len(row.prompt_ids) > switch]
        packs = _plan(beyond, 0, most_tokens)
        if not within:
            return (), packs
        prefix_ids, others = plan_scoring(within, most_tokens)
        return prefix_ids, others + packs
    prompts = [row.prompt_ids for row in rows]
    shared = common_prefix(prompts)
    if shared < SHORTEST_PREFIX:
        shared = 0
    return prompts[0][:shared], _plan(rows, shared, most_tokens)


def _plan(rows: Sequence[ScoringRow], prefix: int, most_tokens: int) -> list[ScoringPack]:
    rest = [row.prompt_ids[prefix:] for row in rows]
    plan = plan_grouped_packs(rest, find_prefix_groups(rest), most_tokens, _MOST_ROWS)
    return [_pack(pack, rows, prefix) for pack in plan]


def _pack(groups: Sequence[PrefixGroup], rows: Sequence[ScoringRow], prefix: int) -> ScoringPack:
    return ScoringPack(
        rows=tuple(rows[row] for group in groups for row in group.members),
        groups=tuple((group.prefix, len(group.members)) for group in groups),
        prefix=prefix,
    )


@contextmanager
def hidden_states(model: CausalLM, *, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """What each pass leaves at two thirds of the depth, [tokens, width]; nothing if not `wanted`.

    There, not at the end, a probe finds mistakes best (docs/decisions/0020-estimators.md).
    """
    seen: list[torch.Tensor] = []
    if not wanted:
        yield seen
        return

    def keep(_layer: object, _inputs: object, output: torch.Tensor | tuple[torch.Tensor]) -> None:
        seen.append((output if isinstance(output, torch.Tensor) else output[0])[0])

    layers = layers_of(model)
    hook = layers[2 * len(layers) // 3].register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


def encode_hidden(state: torch.Tensor) -> str:
    """A hidden state [width] in float16, as base64: a journal is made of text."""
    most = torch.finfo(torch.float16).max
    halves = state.float().clamp(-most, most).half().cpu().numpy()
    return b64encode(halves.tobytes()).decode("ascii")


def _explain_memory(tokens: int) -> str:
    return (
        f"out of memory in a pass of {tokens} tokens of scoring; "
        "lower score.batch_tokens, or use model.dtype=bfloat16 or a smaller model"
    )

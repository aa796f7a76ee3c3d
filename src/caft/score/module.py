"""The causal LM under Lightning: packs of prompts in, next-token estimates out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule

from caft.errors import UserError
from caft.models.decoding import SharedPrefix
from caft.models.estimates import estimate_complexity
from caft.models.packing import (
    Pack,
    common_prefix,
    compute_prefix,
    pack_rows,
    packed_attention,
    packed_logits,
    plan_packs,
)
from caft.score.prepare import ScoringRow

# A shorter prefix saves less than reading it back costs.
_SHORTEST_SHARED_PREFIX = 16


@dataclass(frozen=True, slots=True)
class ScoringPack:
    """Rows that share one forward pass; `positions` are their answer positions in the pack."""

    rows: tuple[ScoringRow, ...]
    pack: Pack
    positions: torch.Tensor


class NextToken(NamedTuple):
    """What one forward pass says about one question.

    No record: Lightning rebuilds what `predict_step` returns, and refuses frozen dataclasses.
    """

    question_id: str
    token: int
    estimates: dict[str, float | None]


class ScoringModule(LightningModule):  # type: ignore[misc]
    """Wraps the student for `Trainer.predict`; the prefix that all rows share is run once."""

    def __init__(self, model: Any, prefix_ids: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.prefix_ids = tuple(prefix_ids)
        self._prefix: SharedPrefix | None = None

    def transfer_batch_to_device(
        self, batch: ScoringPack, device: torch.device, dataloader_idx: int
    ) -> ScoringPack:
        """Lightning's hook: a pack knows its own tensors."""
        return replace(batch, pack=batch.pack.to(device))

    def predict_step(self, batch: ScoringPack, batch_idx: int) -> list[NextToken]:
        """One forward pass; the logits of the answer positions only, [rows, vocabulary]."""
        with packed_attention(self.model):
            logits = packed_logits(self.model, self._behind_prefix(batch.pack), batch.positions)
        return [
            _read_next_token(row, row_logits)
            for row, row_logits in zip(batch.rows, logits, strict=True)
        ]

    def _behind_prefix(self, pack: Pack) -> Pack:
        if not self.prefix_ids:
            return pack
        if self._prefix is None:
            self._prefix = compute_prefix(self.model, self.prefix_ids, self.device)
        return replace(pack, layout=replace(pack.layout, prefix=self._prefix))


def plan_scoring(
    rows: Sequence[ScoringRow], most_tokens: int
) -> tuple[tuple[int, ...], list[ScoringPack]]:
    """The prefix that all prompts share, and the packs of what follows it in each."""
    prompts = [row.prompt_ids for row in rows]
    shared = common_prefix(prompts)
    if shared < _SHORTEST_SHARED_PREFIX:
        shared = 0
    lengths = [len(prompt) - shared for prompt in prompts]
    packs = [
        _pack(tuple(rows[index] for index in members), shared)
        for members in plan_packs(lengths, most_tokens)
    ]
    return prompts[0][:shared], packs


def _pack(rows: tuple[ScoringRow, ...], shared: int) -> ScoringPack:
    pack = pack_rows([row.prompt_ids[shared:] for row in rows], first_position=shared)
    ends = [
        start + len(row.prompt_ids) - shared - 1
        for start, row in zip(pack.starts, rows, strict=True)
    ]
    return ScoringPack(rows, pack, torch.tensor(ends))


def _read_next_token(row: ScoringRow, logits: torch.Tensor) -> NextToken:
    if not torch.isfinite(logits).all():
        raise UserError(
            f"question {row.question_id}: the model's logits are not finite; "
            "try model.dtype=float32, and check the weights"
        )
    return NextToken(
        row.question_id, int(logits.argmax()), estimate_complexity(logits, row.label_ids)
    )

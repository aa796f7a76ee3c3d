"""The causal LM under Lightning: batches of prompts in, greedy replies out.

Free-text answers, chains of thought and the replies of an evaluation are all written this way.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from pytorch_lightning import LightningModule

from caft.errors import UserError
from caft.kernels.memory import is_out_of_memory, release_memory
from caft.models.generation import generate_replies
from caft.protocols import CausalLM, Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplyBatch:
    """Prompts of similar length, with the question each belongs to."""

    question_ids: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]


class WrittenReply(NamedTuple):
    """A greedy reply: its text and how many tokens it took, the end token included.

    If the spread was requested, also the tokens one by one, each with its distribution's entropy
    (nats), top-1 probability and top-2 margin. Lightning refuses frozen dataclasses here.
    """

    question_id: str
    text: str
    tokens: int
    ids: list[int]
    entropies: list[float]
    top1: list[float]
    margins: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyConfig:
    """How replies are generated: when one ends, and what is kept of it."""

    max_new_tokens: int
    end_ids: tuple[int, ...]
    stop_after_marker: bool = True
    with_spread: bool = False


class ReplyModule(LightningModule):  # type: ignore[misc]
    """Wraps the student for `Trainer.predict`."""

    def __init__(self, model: CausalLM, tokenizer: Tokenizer, config: ReplyConfig) -> None:
        super().__init__()
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self._largest: int | None = None

    def transfer_batch_to_device(
        self, batch: ReplyBatch, device: torch.device, dataloader_idx: int
    ) -> ReplyBatch:
        """Lightning's hook: prompts become tensors in models/generation.py."""
        return batch

    def predict_step(self, batch: ReplyBatch, batch_idx: int) -> list[WrittenReply]:
        """A greedy reply for every prompt of the batch, in halves where memory runs out."""
        size = len(batch.prompts)
        if self._largest is None or size <= self._largest:
            try:
                return self._write(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise UserError(
                        f"out of memory while question {batch.question_ids[0]} alone is replied to "
                        f"in at most {self.config.max_new_tokens} tokens; lower "
                        "evaluation.max_new_tokens or score.chain.max_new_tokens, or use "
                        "model.dtype=bfloat16 or a smaller model"
                    ) from error
            # Outside the handler, which still references the memory of the failed attempt.
            release_memory()
            self._largest = size // 2
            log.info("out of memory with %d replies at once; now %d", size, self._largest)
        middle = size // 2
        halves = [
            ReplyBatch(batch.question_ids[part], batch.prompts[part])
            for part in (slice(middle), slice(middle, None))
        ]
        return [reply for half in halves for reply in self.predict_step(half, batch_idx)]

    def _write(self, batch: ReplyBatch) -> list[WrittenReply]:
        replies = generate_replies(
            self.model,
            self.tokenizer,
            batch.prompts,
            names=batch.question_ids,
            **asdict(self.config),
        )
        return [
            WrittenReply(
                name,
                reply.text,
                reply.tokens,
                [each.token for each in reply.spread],
                [each.entropy for each in reply.spread],
                [each.top1 for each in reply.spread],
                [each.margin for each in reply.spread],
            )
            for name, reply in zip(batch.question_ids, replies, strict=True)
        ]


def plan_replies(
    prompts: Sequence[tuple[str, tuple[int, ...]]], batch_size: int
) -> list[ReplyBatch]:
    """Batches in order of prompt length, from question ids with their prompt tokens."""
    ordered = sorted(prompts, key=lambda item: len(item[1]))
    pieces = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    return [
        ReplyBatch(tuple(name for name, _ in piece), tuple(ids for _, ids in piece))
        for piece in pieces
    ]

"""The causal LM under Lightning: batches of prompts in, greedy replies out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytorch_lightning import LightningModule

from caft.models.generation import Reply, generate_replies


@dataclass(frozen=True, slots=True)
class WritingBatch:
    """Prompts of similar length, with the question each belongs to."""

    question_ids: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]


class WritingModule(LightningModule):  # type: ignore[misc]
    """Wraps the student for `Trainer.predict`."""

    def __init__(
        self, model: Any, tokenizer: Any, *, max_new_tokens: int, end_ids: Sequence[int]
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.end_ids = tuple(end_ids)

    def transfer_batch_to_device(
        self, batch: WritingBatch, device: Any, dataloader_idx: int
    ) -> WritingBatch:
        """Lightning's hook: prompts become tensors in models/generation.py."""
        return batch

    def predict_step(self, batch: WritingBatch, batch_idx: int) -> list[tuple[str, Reply]]:
        """A greedy reply for every prompt of the batch."""
        replies = generate_replies(
            self.model,
            self.tokenizer,
            batch.prompts,
            max_new_tokens=self.max_new_tokens,
            end_ids=self.end_ids,
        )
        return list(zip(batch.question_ids, replies, strict=True))


def plan_writing(
    prompts: Sequence[tuple[str, tuple[int, ...]]], batch_size: int
) -> list[WritingBatch]:
    """Batches in order of prompt length, so that little is padded."""
    ordered = sorted(prompts, key=lambda item: len(item[1]))
    return [
        WritingBatch(
            tuple(name for name, _ in ordered[start : start + batch_size]),
            tuple(ids for _, ids in ordered[start : start + batch_size]),
        )
        for start in range(0, len(ordered), batch_size)
    ]

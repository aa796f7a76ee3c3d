"""The causal LM under Lightning: batches of prompts in, greedy replies out.

Free-text answers, chains of thought and the replies of an evaluation are all written this way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from pytorch_lightning import LightningModule

from caft.errors import UserError
from caft.kernels.memory import is_out_of_memory, release_memory
from caft.models.generation import ReplyRules, stream_replies
from caft.protocols import CausalLM, Tokenizer

log = logging.getLogger(__name__)
_KEPT_PART = 8


@dataclass(frozen=True, slots=True)
class ReplyBatch:
    """Prompts of similar length, with the question each belongs to."""

    question_ids: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]


class WrittenReply(NamedTuple):
    """A greedy reply: its text and how many tokens it took, the end token included.

    If the spread was requested, also the tokens one by one, each with its distribution's entropy
    (nats), top-1 probability and top-2 margin. `thinking_tokens` are those of thinking spans.
    Lightning refuses frozen dataclasses here.
    """

    question_id: str
    text: str
    tokens: int
    ids: list[int]
    entropies: list[float]
    top1: list[float]
    margins: list[float]
    thinking_tokens: int = 0


class ReplyModule(LightningModule):  # type: ignore[misc]
    """Wraps the student for `Trainer.predict`.

    Replies of different lengths share the rows, so that those of a batch are not the next ones to
    end: a step returns as many replies as its batch has prompts, whichever they are.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer, rules: ReplyRules, rows: int) -> None:
        super().__init__()
        self.model, self.tokenizer, self.rules, self.rows = model, tokenizer, rules, rows
        self._replies: Iterator[WrittenReply] = iter(())

    def on_predict_start(self) -> None:
        """Lightning's hook: all batches are known."""
        batches: Sequence[ReplyBatch] = self.trainer.predict_dataloaders.dataset
        self._replies = self.write(
            {
                name: prompt
                for batch in batches
                for name, prompt in zip(batch.question_ids, batch.prompts, strict=True)
            }
        )

    def transfer_batch_to_device(
        self, batch: ReplyBatch, device: torch.device, dataloader_idx: int
    ) -> ReplyBatch:
        """Lightning's hook: prompts become tensors in models/generation.py."""
        return batch

    def predict_step(self, batch: ReplyBatch, batch_idx: int) -> list[WrittenReply]:
        """The next greedy replies, as many as the batch has prompts."""
        return list(islice(self._replies, len(batch.question_ids)))

    def write(self, prompts: Mapping[str, tuple[int, ...]]) -> Iterator[WrittenReply]:
        """Greedy replies as they end; half as many at once where memory runs out.

        UserError, naming the question, where memory does not hold a single one.
        """
        left = dict(prompts)
        while left:
            try:
                yield from self._write(left)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.rows == 1:
                    longest = max(left, key=lambda name: len(left[name]))
                    raise UserError(
                        f"out of memory while question {longest} alone is replied to in at most "
                        f"{self.rules.most_tokens} tokens; lower evaluation.max_new_tokens or "
                        "score.chain.max_new_tokens, or use model.dtype=bfloat16 or a smaller model"
                    ) from error
            if left:
                # Outside the handler, which holds on to what the failed attempt had in memory.
                release_memory()
                rows, self.rows = self.rows, max(1, min(self.rows, len(left)) // 2)
                log.info("out of memory with %d replies at once; now %d", rows, self.rows)

    def _write(self, left: dict[str, tuple[int, ...]]) -> Iterator[WrittenReply]:
        """Replies to what is left; each takes its prompt out of `left`."""
        names = list(left)
        stream = stream_replies(
            self.model,
            self.tokenizer,
            list(left.values()),
            self.rules,
            rows=self.rows,
            names=names,
        )
        for place, reply in stream:
            del left[names[place]]
            yield WrittenReply(
                names[place],
                reply.text,
                reply.tokens,
                [each.token for each in reply.spread],
                [each.entropy for each in reply.spread],
                [each.top1 for each in reply.spread],
                [each.margin for each in reply.spread],
                reply.thinking_tokens,
            )


def plan_replies(prompts: Sequence[tuple[str, tuple[int, ...]]], rows: int) -> list[ReplyBatch]:
    """Batches in order of prompt length, from question ids with their prompt tokens.

    Smaller than the `rows` that are written at once, since a batch's replies are kept together.
    """
    ordered = sorted(prompts, key=lambda item: len(item[1]))
    size = max(1, rows // _KEPT_PART)
    pieces = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [
        ReplyBatch(tuple(name for name, _ in piece), tuple(ids for _, ids in piece))
        for piece in pieces
    ]

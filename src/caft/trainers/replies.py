"""The causal LM under Lightning: batches of prompts in, written replies out.

Free-text answers, chains of thought and the replies of an evaluation are all written this way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch

from caft.errors import UserError
from caft.kernels.memory import is_out_of_memory, release_memory
from caft.models.generation import stream_replies
from caft.models.reply_rules import ReplyRules
from caft.protocols import CausalLM, Tokenizer
from caft.records import WrittenReply
from caft.trainers.watching import PredictingModule

log = logging.getLogger(__name__)
_KEPT_PART = 8
# A reply in work counts as at most this part of one.
_NEARLY = 0.95


class ReplyName(NamedTuple):
    """Which reply: the question's id, and the number of the sample, from 0."""

    question_id: str
    sample: int = 0


@dataclass(frozen=True, slots=True)
class ReplyBatch:
    """Prompts of similar length, with the reply that each is for."""

    names: tuple[ReplyName, ...]
    prompts: tuple[tuple[int, ...], ...]

    @property
    def question_ids(self) -> tuple[str, ...]:
        """A question's id stands once for every sample."""
        return tuple(name.question_id for name in self.names)


class ReplyModule(PredictingModule):
    """Wraps the student for `Trainer.predict`.

    Replies of different lengths share the rows, so that those of a batch are not the next ones to
    end: a step returns as many replies as its batch has prompts, whichever they are.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer, rules: ReplyRules, rows: int) -> None:
        super().__init__()
        self.model, self.tokenizer, self.rules = model, tokenizer, rules
        self.rows = self._held = rows
        self._replies: Iterator[WrittenReply] = iter(())
        self._written = _Written(rules.most_tokens)

    def on_predict_start(self) -> None:
        """Lightning's hook: all batches are known."""
        batches: Sequence[ReplyBatch] = self.trainer.predict_dataloaders.dataset
        self._replies = self.write(
            {
                name: prompt
                for batch in batches
                for name, prompt in zip(batch.names, batch.prompts, strict=True)
            }
        )

    def transfer_batch_to_device(
        self, batch: ReplyBatch, device: torch.device, dataloader_idx: int
    ) -> ReplyBatch:
        """Lightning's hook: prompts become tensors in models/generation.py."""
        return batch

    def predict_step(self, batch: ReplyBatch, batch_idx: int) -> list[WrittenReply]:
        """The next replies, as many as the batch has prompts."""
        replies = list(islice(self._replies, len(batch.names)))
        self._written.returned += len(replies)
        return replies

    def write(self, prompts: Mapping[ReplyName, tuple[int, ...]]) -> Iterator[WrittenReply]:
        """Replies as they end; half as many at once where memory runs out.

        UserError, naming the question, where memory does not hold a single one.
        """
        left = dict(prompts)
        while left:
            self._held = self.rows
            try:
                yield from self._write(left)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._held == 1:
                    longest = max(left, key=lambda name: len(left[name])).question_id
                    raise UserError(
                        f"out of memory while question {longest} alone is replied to in at most "
                        f"{self.rules.most_tokens} tokens; lower evaluation.max_new_tokens "
                        "(of a chain score.chain.max_new_tokens, of a teacher teacher.max_tokens), "
                        "or use model.dtype=bfloat16 or a smaller model"
                    ) from error
            if left:
                # Outside the handler, which holds on to what the failed attempt had in memory.
                release_memory()
                # Of those that the cache was made for: it may hold fewer than are allowed.
                self.rows = max(1, min(self._held, len(left)) // 2)
                log.info("out of memory with %d replies at once; now %d", self._held, self.rows)

    def _note_held(self, rows: int) -> None:
        self._held = rows

    def _write(self, left: dict[ReplyName, tuple[int, ...]]) -> Iterator[WrittenReply]:
        """Replies to what is left; each takes its prompt out of `left`."""
        names = list(left)
        stream = stream_replies(
            self.model,
            self.tokenizer,
            list(left.values()),
            self.rules,
            rows=self.rows,
            names=[name.question_id for name in names],
            samples=[name.sample for name in names],
            at_once=self._note_held,
            watch=lambda lengths: self.moved(*self._written.look(lengths)),
        )
        for place, reply in stream:
            del left[names[place]]
            self._written.end(reply.tokens)
            yield WrittenReply(
                names[place].question_id,
                reply.text,
                reply.tokens,
                reply.ids,
                [each.entropy for each in reply.spread],
                [each.top1 for each in reply.spread],
                [each.margin for each in reply.spread],
                reply.thinking_tokens,
                names[place].sample,
            )


class _Written:
    """How much is written of replies that take at most `most` tokens."""

    def __init__(self, most: int) -> None:
        self._most, self._began = most, time.monotonic()
        self.returned = self._ended = self._tokens = 0

    def end(self, tokens: int) -> None:
        """A reply of so many tokens has ended."""
        self._ended += 1
        self._tokens += tokens

    def look(self, lengths: Sequence[int]) -> tuple[float, str]:
        """Replies that are written but not returned yet, parts included; and the speed.

        A reply in work becomes as long as those that have ended are on average.
        """
        expected = self._tokens / self._ended if self._ended else self._most
        parts = sum(min(length / max(expected, 1), _NEARLY) for length in lengths)
        speed = (self._tokens + sum(lengths)) / max(time.monotonic() - self._began, 1e-9)
        return self._ended - self.returned + parts, f"{speed:,.0f} tok/s"


def plan_replies(
    prompts: Sequence[tuple[ReplyName, tuple[int, ...]]], rows: int
) -> list[ReplyBatch]:
    """Batches in order of prompt length, from the replies' names with their prompt tokens.

    Smaller than the `rows` that are written at once, since a batch's replies are kept together.
    """
    ordered = sorted(prompts, key=lambda item: len(item[1]))
    size = max(1, rows // _KEPT_PART)
    pieces = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [
        ReplyBatch(tuple(name for name, _ in piece), tuple(ids for _, ids in piece))
        for piece in pieces
    ]

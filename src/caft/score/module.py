"""The causal LM under Lightning: packs of prompts in, next-token estimates out.

Also free-text answers and chains of thought, which are written out. On several devices every
process loads the student itself, takes its share of the batches and keeps what it finds in a
journal: nothing but the journal comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Callback, LightningModule
from torch.utils.data import DataLoader

from caft.errors import UserError
from caft.models.decoding import SharedPrefix
from caft.models.estimates import estimate_complexity, label_log_probabilities
from caft.models.generation import Reply, generate_replies
from caft.models.packing import (
    Pack,
    common_prefix,
    compute_prefix,
    pack_behind_stems,
    packed_attention,
    packed_logits,
)
from caft.models.stems import SHORTEST_STEM, Bundle, find_bundles, plan_bundled_packs
from caft.models.student import Student
from caft.score.prepare import ScoringRow
from caft.store import Journal
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.progress import CountingProgress
from caft.trainers.ranks import Ranks

# Bounds the logits of a pack, whatever the vocabulary: 50 MB of bfloat16 for 200,000 tokens.
_MOST_ROWS = 128


@dataclass(frozen=True, slots=True)
class ScoringPack:
    """Rows that share one forward pass, bundle by bundle, behind the same `prefix` tokens.

    `bundles` are pairs of a stem's length and its number of rows. Tensors are made when the
    pack's turn comes: those of all packs together would be most of the memory of scoring.
    """

    rows: tuple[ScoringRow, ...]
    bundles: tuple[tuple[int, int], ...]
    prefix: int

    def lay_out(self) -> tuple[Pack, torch.Tensor]:
        """The pack, and the answer positions of its rows in it, [rows]."""
        left = iter([row.prompt_ids[self.prefix :] for row in self.rows])
        bundles, own_lengths = [], []
        for stem, count in self.bundles:
            members = list(islice(left, count))
            bundles.append((members[0][:stem], [ids[stem:] for ids in members]))
            own_lengths += [len(ids) - stem for ids in members]
        pack = pack_behind_stems(bundles, first_position=self.prefix)
        return pack, torch.tensor(pack.starts) + torch.tensor(own_lengths) - 1


class NextToken(NamedTuple):
    """What one forward pass says about one question.

    `label_log_p` is ln p of every label over the full vocabulary. No record: Lightning rebuilds
    what `predict_step` returns, and refuses frozen dataclasses.
    """

    question_id: str
    token: int
    estimates: dict[str, float | None]
    label_log_p: tuple[float, ...] = ()


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
        """Lightning's hook: a pack's tensors are made in `predict_step`."""
        return batch

    def predict_step(self, batch: ScoringPack, batch_idx: int) -> list[NextToken]:
        """One forward pass; the logits of the answer positions only, [rows, vocabulary]."""
        pack, positions = batch.lay_out()
        with packed_attention(self.model):
            behind = self._behind_prefix(pack.to(self.device))
            logits = packed_logits(self.model, behind, positions)
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
    if shared < SHORTEST_STEM:
        shared = 0
    rest = [prompt[shared:] for prompt in prompts]
    plan = plan_bundled_packs(rest, find_bundles(rest), most_tokens, _MOST_ROWS)
    return prompts[0][:shared], [_pack(pack, rows, shared) for pack in plan]


def _pack(bundles: Sequence[Bundle], rows: Sequence[ScoringRow], prefix: int) -> ScoringPack:
    return ScoringPack(
        rows=tuple(rows[row] for bundle in bundles for row in bundle.members),
        bundles=tuple((bundle.stem, len(bundle.members)) for bundle in bundles),
        prefix=prefix,
    )


def _read_next_token(row: ScoringRow, logits: torch.Tensor) -> NextToken:
    if not torch.isfinite(logits).all():
        raise UserError(
            f"question {row.question_id}: the model's logits are not finite; "
            "try model.dtype=float32, and check the weights"
        )
    return NextToken(
        row.question_id,
        int(logits.argmax()),
        estimate_complexity(logits, row.label_ids),
        label_log_probabilities(logits, row.label_ids),
    )


# Replies that are written out


@dataclass(frozen=True, slots=True)
class ReplyBatch:
    """Prompts of similar length, with the question each belongs to."""

    question_ids: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]


class WrittenReply(NamedTuple):
    """A greedy reply token by token, with the spread of each token's distribution."""

    question_id: str
    ids: list[int]
    entropies: list[float]
    top1: list[float]
    margins: list[float]


class ReplyModule(LightningModule):  # type: ignore[misc]
    """Lets the student write, and keeps the spread of every token."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_new_tokens: int,
        end_ids: Sequence[int],
        stop_after_marker: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.end_ids = tuple(end_ids)
        self.stop_after_marker = stop_after_marker

    def transfer_batch_to_device(
        self, batch: ReplyBatch, device: torch.device, dataloader_idx: int
    ) -> ReplyBatch:
        """Lightning's hook: prompts become tensors in models/generation.py."""
        return batch

    def predict_step(self, batch: ReplyBatch, batch_idx: int) -> list[WrittenReply]:
        """A greedy reply for every prompt of the batch."""
        replies = generate_replies(
            self.model,
            self.tokenizer,
            batch.prompts,
            max_new_tokens=self.max_new_tokens,
            end_ids=self.end_ids,
            stop_after_marker=self.stop_after_marker,
            with_spread=True,
        )
        return [
            _keep_spread(name, reply)
            for name, reply in zip(batch.question_ids, replies, strict=True)
        ]


def _keep_spread(question_id: str, reply: Reply) -> WrittenReply:
    return WrittenReply(
        question_id,
        [each.token for each in reply.spread],
        [each.entropy for each in reply.spread],
        [each.top1 for each in reply.spread],
        [each.margin for each in reply.spread],
    )


def plan_replies(
    prompts: Sequence[tuple[str, tuple[int, ...]]], batch_size: int
) -> list[ReplyBatch]:
    """Batches in order of prompt length, from question ids with their prompt tokens."""
    ordered = sorted(prompts, key=lambda item: len(item[1]))
    pieces = [ordered[at : at + batch_size] for at in range(0, len(ordered), batch_size)]
    return [
        ReplyBatch(tuple(name for name, _ in piece), tuple(ids for _, ids in piece))
        for piece in pieces
    ]


# Several processes, and what they leave


def count_rows(batch: ScoringPack | ReplyBatch) -> int:
    """Questions in a batch."""
    return len(batch.rows) if isinstance(batch, ScoringPack) else len(batch.prompts)


class KeepInJournal(Callback):  # type: ignore[misc]
    """Writes every batch's results down as they come, and stops behind one where it is asked to."""

    def __init__(self, journal: Journal, asked_to_stop: Callable[[], bool]) -> None:
        self.journal, self.asked_to_stop = journal, asked_to_stop

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Lightning's hook."""
        self.journal.append([result._asdict() for result in outputs])
        if self.asked_to_stop():
            raise SystemExit(0)


@dataclass(frozen=True, slots=True)
class Predicting:
    """Batches for one module, and where their results go: all that a process must be told."""

    title: str
    student: Student
    make_module: Callable[[Any], LightningModule]
    batches: tuple[Any, ...]
    journal: Journal
    trainer: TrainerConfig


def predict_share(ranks: Ranks, _tell: Callable[[Any], None], job: Predicting) -> None:
    """Run every n-th batch, as one of n processes. Results stand in the journal."""
    own: Any = job.batches[ranks.share]
    bar = CountingProgress(
        job.title,
        sum(map(count_rows, own)),
        count_rows,
        shown=job.trainer.progress and not ranks.rank,
    )
    keep = KeepInJournal(job.journal, ranks.asked_to_stop)
    trainer = build_trainer(
        job.trainer, folder=job.journal.folder, callbacks=[bar, keep], ranks=ranks.count
    )
    module = job.make_module(job.student.load())
    # A list has all that a data set of torch needs, but not its type.
    trainer.predict(module, DataLoader(own, batch_size=None), return_predictions=False)

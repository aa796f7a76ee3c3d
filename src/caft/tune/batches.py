"""Plans the rows of each optimizer step, their order and their forward passes. Pure.

Which rows an epoch draws is a function of seed, stage and epoch, and their order one of seed and
epoch alone, so that a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, astuple, dataclass, field, replace
from random import Random

import torch

from caft.kernels.packing import Pack, pack_rows, plan_packs
from caft.records import Example
from caft.tune.config import WHOLE, Part
from caft.tune.draws import EVERY_ROW, Draws

WHOLE_STEP = slice(None)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a padded pass has: tokens, trained ones among them, rows, and tokens of the longest."""

    tokens: int
    trained: int
    rows: int
    longest: int

    def holds(self, other: Shape) -> bool:
        """Whether what fits into `other` fits into this one."""
        return all(own >= needed for own, needed in zip(astuple(self), astuple(other), strict=True))


@dataclass(frozen=True, slots=True)
class TrainingPack:
    """Rows of one forward pass.

    `positions` are the tokens whose successors are trained, and `labels` those successors; both
    [trained tokens]. `weight` is that of each of them in the loss. A pack that is padded to a
    `shape` also has their `shares` in the step's loss, [trained tokens], 0 for those that were
    added.
    """

    pack: Pack
    positions: torch.Tensor
    labels: torch.Tensor
    weight: float = 1.0
    shares: torch.Tensor | None = None
    shape: Shape | None = None

    @property
    def tokens(self) -> int:
        """Of its rows, without those that were added."""
        return self.pack.layout.runs[-1].start if self.shape else self.pack.input_ids.numel()


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: its forward passes, its rows and the weight of its trained tokens.

    Its loss is the weighted mean over trained tokens t of row r(t), in nats:
    sum_t w[r(t)] (-ln p(t)) / sum_t w[r(t)]. The denominator is `weight`: the number of trained
    tokens where every row has the weight 1. Weights that are all equal change nothing.
    """

    packs: tuple[TrainingPack, ...]
    question_ids: tuple[str, ...]
    weight: float

    def to(self, device: torch.device) -> Step:
        """The same step with its tensors on `device`."""
        moved = tuple(
            replace(
                item,
                pack=item.pack.to(device),
                positions=item.positions.to(device),
                labels=item.labels.to(device),
                shares=None if item.shares is None else item.shares.to(device),
            )
            for item in self.packs
        )
        return replace(self, packs=moved)


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """A permutation of `count` rows that depends on seed and epoch only."""
    order = list(range(count))
    Random(f"epoch order {seed} {epoch}").shuffle(order)
    return order


@dataclass(eq=False)
class EpochLoader:
    """Iterating gives the steps of the epoch that was set; each epoch has its own order.

    `part` says which epochs of the config's stage these are, `draws` picks the rows of each.
    Counting iterations would not work: Lightning opens one iterator more than it has epochs. After
    `done` steps, the first epoch that is set is the one they end in, and its remaining steps
    follow. `share` picks this device's rows of every step. `switch` is that of the model's angles
    (kernels/rotary.py).
    """

    examples: Sequence[Example]
    batch_size: int
    most_tokens: int
    seed: int
    done: InitVar[int] = 0
    share: slice = field(default_factory=lambda: WHOLE_STEP)
    draws: Draws = EVERY_ROW
    part: Part = WHOLE
    switch: int | None = None

    def __post_init__(self, done: int) -> None:
        self.rows_an_epoch = len(self.draws.rows_of(self.examples, 0))
        self.first_epoch, self.skipped = divmod(done, len(self))
        self.epoch = self.first_epoch

    @property
    def sampler(self) -> EpochLoader:
        """Lightning looks here for `set_epoch`, which it calls before every epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose steps come next, counted from 0 since the start of this process."""
        self.epoch = self.first_epoch + epoch

    def __len__(self) -> int:
        return math.ceil(self.rows_an_epoch / self.batch_size)

    def __iter__(self) -> Iterator[Step]:
        # Planned at the first step that is asked for, when Lightning has set the epoch.
        drawn = self.draws.rows_of(self.examples, self.epoch)
        order = epoch_order(len(drawn), self.seed, self.part.epoch + self.epoch)
        first = self.skipped if self.epoch == self.first_epoch else 0
        for start in range(first * self.batch_size, len(order), self.batch_size):
            rows = [drawn[row] for row in order[start : start + self.batch_size]]
            yield make_step(rows, self.most_tokens, self.share, self.switch)


def make_step(
    rows: Sequence[Example],
    most_tokens: int,
    share: slice = WHOLE_STEP,
    switch: int | None = None,
) -> Step:
    """Rows of one step, packed without padding into passes of at most `most_tokens`.

    Of several devices each runs a `share` of the rows, which may be none; the ids and the weight
    are those of all rows, so that the shares' losses add up to the step's. Rows of different
    weights, or of different sides of the model's `switch`, are in different passes.
    """
    packs = []
    for weight in dict.fromkeys(row.weight for row in rows[share]):
        own = [row for row in rows[share] if row.weight == weight]
        plan = plan_packs([row.length - 1 for row in own], most_tokens, switch=switch)
        packs += [_pack([own[index] for index in members], weight) for members in plan]
    return Step(
        tuple(packs),
        tuple(row.question_id for row in rows),
        sum(row.weight * len(row.completion_ids) for row in rows),
    )


def idle_pack() -> TrainingPack:
    """A pass of one token that teaches nothing: for a device that has no row left in a step."""
    return TrainingPack(pack_rows([(0,)]), torch.tensor([0]), torch.tensor([0]), weight=0.0)


def _pack(rows: Sequence[Example], weight: float) -> TrainingPack:
    # The last token of a row predicts nothing: it is a label only, and never run.
    tokens = [(row.prompt_ids + row.completion_ids)[:-1] for row in rows]
    pack = pack_rows(tokens)
    positions = [
        start + len(row.prompt_ids) - 1 + index
        for start, row in zip(pack.starts, rows, strict=True)
        for index in range(len(row.completion_ids))
    ]
    labels = [token for row in rows for token in row.completion_ids]
    return TrainingPack(pack, torch.tensor(positions), torch.tensor(labels), weight)

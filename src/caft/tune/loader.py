"""Hands Lightning the steps of one epoch after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from caft.records import Example
from caft.tune.batches import EVERY_ROW, Step, plan_epoch


class EpochLoader:
    """Iterating gives the steps of the epoch that was set; each epoch has its own order.

    Counting iterations would not do: Lightning opens an iterator more than it has epochs.
    With `done` steps behind it, the first epoch that is set is the one they end in, and its
    remaining steps come. `share` picks this device's rows of every step.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        most_tokens: int,
        seed: int,
        *,
        done: int = 0,
        share: slice = EVERY_ROW,
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.most_tokens = most_tokens
        self.seed = seed
        self.share = share
        self.first_epoch, self.skipped = divmod(done, len(self))
        self.epoch = self.first_epoch

    @property
    def sampler(self) -> EpochLoader:
        """Where Lightning looks for `set_epoch`, which it calls before every epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0 on and since the start of this process, whose steps come next."""
        self.epoch = self.first_epoch + epoch

    def __len__(self) -> int:
        return math.ceil(len(self.examples) / self.batch_size)

    def __iter__(self) -> Iterator[Step]:
        # Planned at the first step that is asked for, when Lightning has set the epoch.
        steps = plan_epoch(
            self.examples,
            batch_size=self.batch_size,
            most_tokens=self.most_tokens,
            seed=self.seed,
            epoch=self.epoch,
            share=self.share,
        )
        yield from steps[self.skipped if self.epoch == self.first_epoch else 0 :]

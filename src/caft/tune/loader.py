"""Hands Lightning the steps of one epoch after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from caft.records import Example
from caft.tune.batches import Step, plan_epoch


class EpochLoader:
    """Iterating gives the steps of the epoch that was set; each epoch has its own order.

    Counting iterations would not do: Lightning opens an iterator more than it has epochs.
    """

    def __init__(
        self, examples: Sequence[Example], batch_size: int, most_tokens: int, seed: int
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.most_tokens = most_tokens
        self.seed = seed
        self.epoch = 0

    @property
    def sampler(self) -> EpochLoader:
        """Where Lightning looks for `set_epoch`, which it calls before every epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0 on, whose steps come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.examples) / self.batch_size)

    def __iter__(self) -> Iterator[Step]:
        # Planned at the first step that is asked for, when Lightning has set the epoch.
        yield from plan_epoch(
            self.examples,
            batch_size=self.batch_size,
            most_tokens=self.most_tokens,
            seed=self.seed,
            epoch=self.epoch,
        )

"""Hands Lightning the steps of one epoch after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from caft.records import Example
from caft.tune.batches import Step, plan_epoch


class EpochLoader:
    """Iterating gives the steps of the next epoch; each epoch has its own order."""

    def __init__(
        self, examples: Sequence[Example], batch_size: int, most_tokens: int, seed: int
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.most_tokens = most_tokens
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(len(self.examples) / self.batch_size)

    def __iter__(self) -> Iterator[Step]:
        steps = plan_epoch(
            self.examples,
            batch_size=self.batch_size,
            most_tokens=self.most_tokens,
            seed=self.seed,
            epoch=self.epoch,
        )
        self.epoch += 1
        return iter(steps)

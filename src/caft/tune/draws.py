"""Which rows of a class an epoch trains, where a stage draws some of them anew. Pure.

A draw is a function of names alone: it is known before a teacher is asked, and a resumed stage
makes it again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from caft.records import Example


@dataclass(frozen=True, slots=True)
class Draws:
    """Each epoch draws `counts` questions of every class named there, without replacement.

    Other classes have all of their rows in every epoch. Stages and epochs count from 0.
    """

    counts: Mapping[str, int]
    seed: int
    stage: int

    def pick(self, ids: Iterable[str], name: str, epoch: int) -> set[str]:
        """The question ids of the class `name` that `epoch` trains; all if there are too few.

        Every epoch orders the class by a hash and takes the first ones. Without some of the ids
        (rationales that were refused), the next in the order take their places.
        """
        count = self.counts.get(name)
        if count is None:
            return set(ids)
        draw = f"draw {self.seed} {self.stage} {epoch} {name} "

        def place(question_id: str) -> tuple[bytes, str]:
            digest = blake2b(f"{draw}{question_id}".encode(), digest_size=8).digest()
            return digest, question_id

        return set(heapq.nsmallest(count, ids, key=place))

    def pick_any(self, ids: Sequence[str], name: str, epochs: int) -> set[str]:
        """The question ids of the class `name` that any of the first `epochs` epochs trains."""
        if name not in self.counts:
            return set(ids)
        return set().union(*(self.pick(ids, name, epoch) for epoch in range(epochs)))

    def rows_of(self, rows: Sequence[Example], epoch: int) -> list[Example]:
        """The rows of one epoch, in the order of `rows`; every epoch has as many.

        A question with several rows is drawn with all of them.
        """
        by_class: dict[str, dict[str, None]] = {}
        for row in rows:
            by_class.setdefault(row.complexity, {})[row.question_id] = None
        picked = {name: self.pick(ids, name, epoch) for name, ids in by_class.items()}
        return [row for row in rows if row.question_id in picked[row.complexity]]


EVERY_ROW = Draws({}, seed=0, stage=0)
"""Nothing is drawn: every epoch trains all rows."""

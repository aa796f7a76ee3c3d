"""The interface of every logger, and the records that a run sends to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MOST_ROWS = 20_000
"""Rows of one table: W&B shows no more, and uploading replies takes long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What a tracker gets of a run in addition to its numbers.

    `name` is for display. `run_id` is the same whenever the same job is started again, so that its
    metrics resume where they stopped; `sweep` names its sweep and `kind` the type of job. `config`
    holds the hyperparameters: the whole resolved config.
    """

    name: str
    folder: Path
    run_id: str = ""
    sweep: str = ""
    kind: str = ""
    overrides: Sequence[str] = ()
    config: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """20 hexadecimal digits: the same for the same job in the same folder, at every start."""
        place = f"{self.folder.resolve()}\n{self.run_id}"
        return hashlib.sha256(place.encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product that a run made or took from the store: files, and what they were made from.

    `kind` is dataset, scores, rationales or adapter; `made_from` maps kinds to fingerprints.
    A product without files has metadata only.
    """

    kind: str
    name: str
    fingerprint: str
    files: Sequence[Path] = ()
    made_from: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)
    taken: bool = False

    @property
    def lineage(self) -> dict[str, object]:
        """The metadata with the fingerprints of the product and of what it was made from."""
        made_from = dict(self.made_from)
        return {**self.metadata, "fingerprint": self.fingerprint, "made_from": made_from}


class RunLogger:
    """The methods of every tracker; one that cannot show something leaves it out."""

    def log_step(self, stage: int, metrics: Mapping[str, float], step: int) -> None:
        """One step of a tuning stage, which counts its steps from 0.

        A run that is started again sends all steps of its stages once more, in the same order.
        """

    def log_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A table: rows with equal columns."""

    def log_series(self, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """A curve: rows of numbers over the one called `step`."""

    def log_product(self, product: Product) -> None:
        """Files with their lineage."""

    def log_report(self, page: Path) -> None:
        """The run's report.html."""

    def log_summary(self, numbers: Mapping[str, float | str]) -> None:
        """The run's headline, sent last: at most a dozen numbers, and names."""

    def finish(self, status: int) -> None:
        """The run is over; 0 means that it went well."""


@contextmanager
def default_variable(name: str, value: str) -> Iterator[None]:
    """The environment's variable `name` is `value` meanwhile, unless it is set."""
    chosen = name in os.environ
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if not chosen:
            os.environ.pop(name, None)


def name_metrics(stage: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """As tune_1/loss, tune_1/validation/accuracy and so on."""
    return {f"tune_{stage}/{name.removeprefix('train/')}": x for name, x in metrics.items()}

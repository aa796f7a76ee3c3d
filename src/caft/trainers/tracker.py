"""The interface of every logger, and the records that a run sends to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What a tracker gets of a run in addition to its numbers.

    `run_id` is the same whenever the same job is started again, so that its metrics resume where
    they stopped; `sweep` names its sweep and `kind` the type of job.
    """

    name: str
    folder: Path
    run_id: str = ""
    sweep: str = ""
    kind: str = ""
    overrides: Sequence[str] = ()
    config: Mapping[str, object] = field(default_factory=dict)


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


class RunLogger:
    """The methods of every tracker; one that cannot show something leaves it out."""

    def log_step(self, stage: int, metrics: Mapping[str, float], step: int) -> None:
        """One step of a tuning stage, which counts its steps from 0."""

    def log_stage(self, name: str, numbers: Mapping[str, float]) -> None:
        """The effort of one stage: seconds, peak_memory_bytes, tokens_per_second, cached."""

    def log_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A table: rows with equal columns."""

    def log_series(self, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """A curve: rows of numbers over the one called `step`."""

    def log_product(self, product: Product) -> None:
        """Files with their lineage."""

    def log_summary(self, numbers: Mapping[str, float]) -> None:
        """Final numbers of the run, under the names that summary.json gives them."""

    def finish(self, status: int) -> None:
        """The run is over; 0 means that it went well."""

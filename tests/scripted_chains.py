"""Drawn chains of thought as a finished stage of the store: a tiny model would write none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from caft.pipeline.workspace import Workspace
from caft.records import Question, SampledReply
from caft.score.stage import SampleInputs
from caft.store import StageKind, write_table


@dataclass(frozen=True)
class Written:
    """A finished stage of drawn chains, with these rows as its result."""

    stage: SampleInputs
    rows: Sequence[SampledReply]

    kind: ClassVar[StageKind] = StageKind.samples
    resumable: ClassVar[bool] = False
    scratch: ClassVar[Sequence[str]] = ()

    @property
    def key(self) -> dict[str, object]:
        return self.stage.key

    def produce(self, folder: Path) -> None:
        write_table(folder / "samples.parquet", SampledReply, self.rows)

    def read(self, folder: Path) -> list[SampledReply]:
        return self.stage.read(folder)


def write_tries(workspace: Workspace, sampling: SampleInputs, right: Mapping[str, int]) -> None:
    """Each question has right chains from the try on that `right` names, and wrong ones before."""

    def is_right(item: Question, number: int) -> bool:
        return number >= right.get(item.id, sampling.count)

    rows = [
        SampledReply(
            question_id=item.id,
            sample=number,
            text=f"my try {number} [[{gold if is_right(item, number) else 'x'}]]",
            parsed=gold if is_right(item, number) else "x",
            correct=is_right(item, number),
            generated_tokens=10 + number,
        )
        for item in sampling.questions
        for gold in [item.answer_set[item.gold_index or 0]]
        for number in range(sampling.count)
    ]
    workspace.store.obtain(Written(sampling, rows))

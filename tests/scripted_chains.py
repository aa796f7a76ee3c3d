"""Drawn chains of thought as a finished stage of the store: a tiny model would write none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from caft.pipeline.workspace import Workspace
from caft.records import Question, SampledReply
from caft.score.stage import SampleInputs
from caft.store import StageKind, write_table


@dataclass(frozen=True)
class Finished:
    """For the store: `stage` as if it had been run, and had written what `write` writes."""

    stage: Any
    write: Callable[[Path], object]

    resumable: ClassVar[bool] = False
    scratch: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> StageKind:
        return self.stage.kind  # type: ignore[no-any-return]

    @property
    def key(self) -> Mapping[str, object]:
        return self.stage.key  # type: ignore[no-any-return]

    def produce(self, folder: Path) -> None:
        self.write(folder)

    def read(self, folder: Path) -> object:
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
    workspace.store.obtain(
        Finished(sampling, lambda at: write_table(at / "samples.parquet", SampledReply, rows))
    )

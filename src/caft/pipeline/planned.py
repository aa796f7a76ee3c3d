"""The plan of a dry run as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caft.console import open_console
from caft.distill.forecast import CostForecast
from caft.pipeline.steps import Step
from caft.pipeline.workload import Load
from caft.store import StageKind

CACHED, RUNS, FREE = "cached", "would run", "no work"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One line of the plan: the stage, whether it is in the store, and its work.

    `kind` is None if a run records no such stage: reading and splitting take no work. `load` is
    None where its tokens are not known yet. `teacher_tokens` is about what a teacher would read and
    write. `note` stands below the table: it names settings, which a narrow column would break.
    """

    name: str
    state: str
    work: str
    kind: StageKind | None = None
    load: Load | None = None
    teacher_tokens: int = 0
    note: str = ""


def plan_asking(
    step: Step, whose: str, forecast: CostForecast, *, writes: bool = False
) -> PlannedStage:
    """The line of a teacher's replies. A local teacher `writes` whatever the ledger has."""
    asks = writes or forecast.in_batch or forecast.calls.high
    state = RUNS if asks else CACHED if forecast.from_ledger else FREE
    tokens = forecast.prompt_tokens.likely + forecast.completion_tokens.likely
    work = f"{whose}: {replace(forecast, note='').line()}"
    return PlannedStage(
        step.name, state, work, step.kind, teacher_tokens=round(tokens), note=forecast.note
    )


def print_table(
    title: str,
    plan: Sequence[PlannedStage],
    times: Mapping[str, str] | None = None,
    needs: Sequence[tuple[str, str]] = (),
) -> None:
    """Print the plan, at most 80 columns wide; `times` by stage, and what the whole of it needs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = open_console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("stage", "state", *(["time"] if times else []), "work"):
        table.add_column(column, overflow="fold", ratio=2 if column == "work" else None)
    for stage in plan:
        time = [times.get(stage.name, "")] if times else []
        table.add_row(stage.name, stage.state, *time, stage.work)
    console.print(f"{title} Nothing was run.", width=min(80, console.width))
    console.print(table, width=min(80, console.width))
    grid = Table.grid(padding=(0, 2))
    notes = [("Note", f"{stage.name}: {stage.note}") for stage in plan if stage.note]
    for name, text in [*needs, *notes]:
        grid.add_row(Text(name, style="bold"), text)
    console.print(grid, width=min(80, console.width))

"""The plan of a dry run as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caft.console import open_console
from caft.distill.forecast import CostForecast
from caft.store import StageKind

CACHED, RUNS, FREE = "cached", "would run", "no work"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One line of the plan: the stage, whether it is in the store, and its work.

    `kind` is None if a run records no such stage: reading and splitting take no work.
    `teacher_tokens` is about what a teacher would read and write.
    """

    name: str
    state: str
    work: str
    kind: StageKind | None = None
    teacher_tokens: int = 0


def plan_asking(name: str, whose: str, forecast: CostForecast, kind: StageKind) -> PlannedStage:
    """The line of a teacher's replies."""
    state = RUNS if forecast.calls.high else CACHED if forecast.from_ledger else FREE
    tokens = forecast.prompt_tokens.likely + forecast.completion_tokens.likely
    return PlannedStage(name, state, f"{whose}: {forecast.line()}", kind, round(tokens))


def print_table(title: str, plan: Sequence[PlannedStage]) -> None:
    """Print the plan, at most 80 columns wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = open_console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("stage", "state", "work"):
        table.add_column(column, overflow="fold")
    for stage in plan:
        table.add_row(stage.name, stage.state, stage.work)
    console.print(f"{title} Nothing was run.", width=min(80, console.width))
    console.print(table, width=min(80, console.width))

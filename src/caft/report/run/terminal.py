"""The end of a run on one screen, 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caft.report.comparison import best_mode
from caft.report.headlines import Headline, Tone, find_headlines, find_warnings, suggest_next
from caft.report.run.estimator_rows import area_gap, list_area_rows, list_facts
from caft.report.wording import area_between, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_STYLES = {Tone.good: "green", Tone.bad: "red", Tone.unclear: "yellow", Tone.plain: "bold"}
_WIDEST = 80


def print_summary(summary: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print what was asked, what came out with intervals, the cost, and what to do next.

    `folder` is the run's own; its report.html is named if it is there.
    """
    from rich.padding import Padding
    from rich.text import Text

    width = min(_WIDEST, console.width)
    console.print()
    console.print(Text(_say_what_was_asked(summary), style="bold"), width=width)
    for finding in find_headlines(summary):
        console.print(_write_finding(finding), width=width)
        console.print(Padding(Text(finding.detail), (0, 0, 0, 2)), width=width)
    if summary.get("accuracy"):
        console.print(_tabulate(summary["accuracy"]), width=width)
    elif summary.get("score"):
        # Nothing has been spent yet: what the scores are worth is what this run was asked.
        _print_validation(summary["score"], console, width)
    for warning in find_warnings(summary):
        console.print(Text(f"! {warning}", style="yellow"), width=width)
    console.print(Text.assemble(("Next    ", "bold"), suggest_next(summary)), width=width)
    report = folder / "report.html"
    place = report if report.exists() else folder / "summary.json"
    # A path is never wrapped: it is there to be clicked or copied.
    label = Text.assemble(("Report  ", "bold"), str(place))
    console.print(label, soft_wrap=True)


def _print_validation(score: Mapping[str, Any], console: Console, width: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("predicts mistakes")
    table.add_column("ROC AUC", justify="right")
    table.add_column("against the one in use", justify="right")
    rows = [row for row in list_area_rows(score) if row.area["value"] is not None]
    for row in rows:
        gap = "in use" if row.in_use else area_gap(row.against)
        table.add_row(Text(row.title), area_between(row.area), gap)
    if rows:
        console.print(table, width=width)
    for name, words in list_facts(score):
        console.print(Text(f"{name}: {words}"), width=width)


def _say_what_was_asked(summary: Mapping[str, Any]) -> str:
    counts = summary["dataset"]["counts"]
    return (
        f"{summary['model']['id']} on {summary['dataset']['name']} "
        f"({counts['train']:,} training, {counts['test']:,} test questions), "
        f"method {summary['method']['name']}, seed {summary['run']['seed']}"
    )


def _write_finding(finding: Headline) -> Text:
    from rich.text import Text

    return Text.assemble(
        f"{finding.asked} ",
        (f"{finding.answer} · {finding.figure}", _STYLES[finding.tone]),
    )


def _tabulate(accuracy: Mapping[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("test accuracy")
    for name in ("base", "tuned"):
        table.add_column(name, justify="right")
    for mode in ("answer", "rationale", "routed"):
        cells = [_write_cell(accuracy, who, mode) for who in ("base", "tuned")]
        if any(cells):
            table.add_row(f"{mode} mode", *cells)
    if accuracy.get("best_mode"):
        table.caption = "* best mode, chosen on validation questions"
        table.caption_justify = "left"
    return table


def _write_cell(accuracy: Mapping[str, Any], who: str, mode: str) -> str:
    result = (accuracy.get(who) or {}).get(mode)
    if not result:
        return ""
    low, high = 100 * result["low"], 100 * result["high"]
    mark = "*" if accuracy.get("best_mode") and best_mode(accuracy, who) == mode else " "
    return f"{percent(result['value'])} ({low:.1f} to {high:.1f}){mark}"

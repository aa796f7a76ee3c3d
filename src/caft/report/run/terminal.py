"""Prints the end of a run on one screen, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from caft.report.advice import suggest_next
from caft.report.comparison import best_mode, results_by_mode
from caft.report.engine_part import describe_engine
from caft.report.forgetting import list_changes
from caft.report.headlines import Headline, Tone, find_headlines
from caft.report.run.caveats import find_warnings
from caft.report.run.estimator_rows import AGAINST, list_facts, tabulate_estimates
from caft.report.run.next_step import Step, fold
from caft.report.run.thinking import list_thinking
from caft.report.run.timing import list_time_rows
from caft.report.schema import MODELS, MODES, AccuracyPart, ModelName, ScorePart, Summary
from caft.report.wording import duration, percent_between

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_STYLES = {Tone.good: "green", Tone.bad: "red", Tone.unclear: "yellow", Tone.plain: "bold"}
_WIDEST = 80
_SMALLEST_SHARE = 0.005


def print_summary(summary: Summary, folder: Path, console: Console) -> None:
    """Print the questions, the results with intervals, caveats, and the next step.

    `folder` is the run's own; its report.html is named if it exists.
    """
    from rich.text import Text

    step, width = suggest_next(summary), min(_WIDEST, console.width)
    lines: list[RenderableType] = ["", Text(_describe_run(summary), style="bold")]
    for headline in find_headlines(summary):
        lines += _write_headline(headline, step, width)
    lines += _list_results(summary)
    lines += [Text(f"Also, {line}") for line in list_changes(summary)]
    if times := _describe_times(summary):
        lines.append(Text.assemble(("Time    ", "bold"), times))
    lines += [Text(f"! {warning}", style="yellow") for warning in find_warnings(summary)]
    lines.append(Text.assemble(("Next    ", "bold"), step.why))
    lines += _write_command(step.command, width)
    for line in lines:
        console.print(line, width=width)
    report = folder / "report.html"
    place = report if report.exists() else folder / "summary.json"
    # A path is never wrapped: it must stay clickable and easy to copy.
    console.print(Text.assemble(("Report  ", "bold"), str(place)), soft_wrap=True)


def _describe_run(summary: Summary) -> str:
    counts = summary["dataset"]["counts"]
    loss = f" (loss {summary['method']['loss']})" if "loss" in summary["method"] else ""
    return (
        f"{summary['model']['id']} on {summary['dataset']['name']} "
        f"({counts['train']:,} training, {counts['test']:,} test questions), "
        f"method {summary['method']['name']}{loss}, seed {summary['run']['seed']}"
    )


def _write_headline(headline: Headline, step: Step, width: int) -> Iterator[RenderableType]:
    """The answer and what it rests on; of a command that follows below, only the answer."""
    from rich.padding import Padding
    from rich.text import Text

    answer = f"{headline.answer} · {headline.figure}"
    yield Text.assemble(f"{headline.asked} ", (answer, _STYLES[headline.tone]))
    if headline.command != step.command:
        yield Padding(Text(headline.brief or headline.detail), (0, 0, 0, 2))
        yield from _write_command(headline.command, width) if headline.command else ()


def _write_command(command: str, width: int) -> list[RenderableType]:
    from rich.text import Text

    return [Text(line) for line in fold(command, width)]


def _list_results(summary: Summary) -> list[RenderableType]:
    from rich.text import Text

    if accuracy := summary.get("accuracy"):
        told = [f"Thinking, {line}" for line in list_thinking(accuracy)]
        told += describe_engine(summary.get("engine"))
        return [_tabulate_accuracy(accuracy), *map(Text, told)]
    # The run stopped after scoring and has spent nothing: its result is how good the scores are.
    score = summary.get("score")
    return _list_validation(score) if score else []


def _describe_times(summary: Summary) -> str:
    """Such as "score 12.3 s (40%, 1,204 tok/s)"; without stages that took next to nothing."""
    parts = []
    for row in list_time_rows(summary):
        facts = ["cached" if row.cached else "" if row.share is None else f"{100 * row.share:.0f}%"]
        facts += [f"{row.rate.split()[0]} tok/s"] if row.rate and not row.cached else []
        if row.share is None or row.share >= _SMALLEST_SHARE:
            known = f" ({', '.join(facts)})" if any(facts) else ""
            parts.append(f"{row.name} {duration(row.seconds)}{known}")
    return "; ".join(parts)


def _list_validation(score: ScorePart) -> list[RenderableType]:
    from rich.text import Text

    table = _open_table("predicts mistakes", "ROC AUC", "Δ to the selected")
    columns = ("estimate", "ROC AUC", AGAINST)
    for name, area, against in tabulate_estimates(score).select(*columns).rows:
        if area.aside:
            table.add_row(Text(name.text), str(area), name.tag or against.text)
    facts = [Text(f"{name}: {fact}") for name, fact in list_facts(score)]
    return [*([table] if table.rows else []), *facts]


def _tabulate_accuracy(accuracy: AccuracyPart) -> Table:
    table = _open_table("test accuracy", *MODELS)
    for mode in MODES:
        cells = [_write_cell(accuracy, model, mode) for model in MODELS]
        if any(cells):
            table.add_row(f"{mode} mode", *cells)
    if accuracy.get("best_mode"):
        table.caption = "* best mode, chosen on validation questions"
        table.caption_justify = "left"
    return table


def _open_table(first: str, *numbers: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(first, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _write_cell(accuracy: AccuracyPart, model: ModelName, mode: str) -> str:
    result = results_by_mode(accuracy, model).get(mode)
    if not result:
        return ""
    is_best = accuracy.get("best_mode") and best_mode(accuracy, model) == mode
    return percent_between(result) + ("*" if is_best else " ")

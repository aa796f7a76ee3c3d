"""A sweep's tables as Markdown, to paste into a paper's draft, an issue or a README."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from caft.report.cells import Table
from caft.report.schema import Summary
from caft.report.sweep.schema import SavingsPart, SweepSummary
from caft.report.sweep.tables import (
    list_modes,
    tabulate_arms,
    tabulate_classes,
    tabulate_forgetting,
    tabulate_savings,
    tabulate_tests,
)
from caft.report.wording import list_names
from caft.statistics import MARGIN


def _escape_bar(text: str) -> str:
    # A bar in a setting's name would end its cell.
    return text.replace("|", "\\|")


def write_table(table: Table, escape: Callable[[str], str] = _escape_bar) -> str:
    """A table in Markdown, its cells escaped; "" without rows."""
    if not table.rows:
        return ""
    head = [column.name for column in table.columns]
    rows = [[escape(str(cell)) for cell in row] for row in table.rows]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_markdown(summary: SweepSummary, runs: Sequence[Summary]) -> str:
    """Question, answers, settings, controls and cost; where the numbers come from at the end.

    `runs` are the summaries of the sweep's finished jobs.
    """
    arms, bases, savings = summary["arms"], summary["bases"], summary["savings"]
    modes = [f"{mode} mode" for mode in list_modes([*bases, *arms])]
    columns = ("setting", "accuracy", "seeds", *modes, "tokens per question")
    parts = [
        summary["question"],
        *(f"**{item['asked']}** {item['answer']}" for item in summary["answers"]),
        write_table(tabulate_arms(arms, bases).select(*columns)),
        arms
        and "Test accuracy in the mode that was best on validation questions, mean over the "
        f"seeds, {100 * summary['confidence']:g}% bootstrap interval over questions and seeds "
        "(Wilson's for one seed); tokens generated per question.",
        write_table(classes) if (classes := tabulate_classes(arms)) else "",
        write_table(tests := tabulate_tests(summary["routing"]["tests"])),
        tests.rows
        and "Ranked by accuracy under each random control of an equal budget, mode by mode; "
        "simultaneous "
        f"{100 * summary['confidence']:g}% intervals over questions and seeds, p "
        "of other questions alone. MDD: minimum detectable difference (80% power).",
        write_table(lost := tabulate_forgetting(summary.get("forgetting", []))),
        lost.rows
        and "Tuned minus base on further data sets, over questions and seeds; not forgotten: a "
        f"loss of {100 * MARGIN:g} points or more is ruled out (non-inferiority).",
        savings and write_table(tabulate_savings(savings, arms)),
        savings
        and f"Means over the seeds; in brackets the difference to {_name_references(savings)}, "
        f"and its accuracy minus the setting's: it keeps up if a loss of "
        f"{100 * savings['margin']:g} points is ruled out (non-inferiority).",
        _describe_origin(summary, runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _name_references(savings: SavingsPart) -> str:
    names = list(dict.fromkeys(savings["references"].values()))
    return list_names(names) + (", by model and test questions" if len(names) > 1 else "")


def _describe_origin(summary: SweepSummary, runs: Sequence[Summary]) -> str:
    if not runs:
        return ""
    overrides = [run["run"]["overrides"] for run in runs]
    shared = [word for word in overrides[0] if all(word in own for own in overrides)]
    facts = {
        "Shared by all jobs": " ".join(f"`{word}`" for word in shared) or "nothing",
        "Seeds": _list({run["run"]["seed"] for run in runs}),
        "Commit": _list({(run["run"]["git_commit"] or "none")[:12] for run in runs}),
        "Device": _list({run["run"]["device"] for run in runs}),
        "Finished": max(run["run"]["finished"] for run in runs)[:16].replace("T", " ") + " UTC",
        "Jobs": f"{len(runs)} finished of {len(summary['jobs'])}",
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _list(values: Iterable[int] | Iterable[str]) -> str:
    return "; ".join(map(str, sorted(values)))

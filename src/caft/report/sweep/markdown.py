"""A sweep's tables as Markdown, to paste where people read: a paper's draft, an issue, a README."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from caft.records import Mode
from caft.report.wording import (
    p_in_words,
    percent,
    percent_between,
    points_between,
    short_count,
    usd,
)


def _escape_bar(text: str) -> str:
    # A bar in a setting's name would end its cell.
    return text.replace("|", "\\|")


def tabulate(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    escape: Callable[[str], str] = _escape_bar,
) -> str:
    """A table in Markdown, its cells escaped; "" without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_markdown(summary: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """Question, answers, settings, controls and cost; where the numbers come from at the end.

    `summary` is the sweep's (see `schema.py`), `runs` are the summaries of its finished jobs.
    """
    parts = [
        summary["question"],
        *(f"**{item['asked']}** {item['answer']}" for item in summary["answers"]),
        _tabulate_settings(summary),
        tabulate_tests(summary["routing"]["tests"]),
        _tabulate_cost(summary),
        _tell_origin(summary, runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tabulate_settings(summary: Mapping[str, Any]) -> str:
    known = {mode for arm in summary["arms"] for mode in arm["by_mode"]}
    modes = [mode.name for mode in Mode if mode.name in known]
    head = ["setting", "accuracy", "seeds", *(f"{mode} mode" for mode in modes), "tokens"]
    rows = [
        [
            arm["name"],
            percent_between(arm["accuracy"]),
            str(len(arm["seeds"])),
            *(percent(arm["by_mode"][mode]) if mode in arm["by_mode"] else "" for mode in modes),
            f"{arm['tokens_a_question']:.1f}",
        ]
        for arm in summary["arms"]
    ]
    note = (
        "Test accuracy in the mode that was best on validation questions, mean over the seeds, "
        f"{100 * summary['confidence']:g}% bootstrap interval over questions and seeds; tokens "
        "generated a question."
    )
    return f"{tabulate(head, rows)}\n\n{note}" if rows else ""


def tabulate_tests(
    tests: Sequence[Mapping[str, Any]], escape: Callable[[str], str] = _escape_bar
) -> str:
    """The routed arms against their random controls; "" without any."""
    head = ["routed", "random", "equal in", "mode", "routed minus random", "p, Holm", "better?"]
    rows = [
        [
            test["second"],
            test["first"],
            ", ".join(test["equal_in"]),
            test["mode"],
            points_between(test),
            p_in_words(test["p_adjusted"]),
            test["verdict"],
        ]
        for test in tests
    ]
    return tabulate(head, rows, escape)


def _tabulate_cost(summary: Mapping[str, Any]) -> str:
    savings = summary["savings"]
    if not savings:
        return ""
    counts = savings["counts"]
    head = ["setting", *(count["name"] for count in counts.values())]
    rows = [
        [arm["name"], *(_amount(key, count, arm["name"]) for key, count in counts.items())]
        for arm in summary["arms"]
    ]
    note = f"Means over the seeds; in brackets the difference to {savings['reference']}."
    return f"{tabulate(head, rows)}\n\n{note}"


def _amount(key: str, count: Mapping[str, Any], arm: str) -> str:
    amount, saved = count["amounts"][arm], count["saved"][arm]
    told = usd(amount) if key == "teacher_usd" else short_count(amount)
    return told if not saved else f"{told} ({-100 * saved:+.1f}%)"


def _tell_origin(summary: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return ""
    words = [set(run["run"]["overrides"]) for run in runs]
    shared = [word for word in runs[0]["run"]["overrides"] if word in set.intersection(*words)]
    facts = {
        "Shared by all jobs": " ".join(f"`{word}`" for word in shared) or "nothing",
        "Seeds": _list({run["run"]["seed"] for run in runs}),
        "Commit": _list({(run["run"]["git_commit"] or "none")[:12] for run in runs}),
        "Device": _list({run["run"]["device"] for run in runs}),
        "Finished": max(run["run"]["finished"] for run in runs)[:16].replace("T", " ") + " UTC",
        "Jobs": f"{len(runs)} finished of {len(summary['jobs'])}",
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _list(values: Iterable[Any]) -> str:
    return "; ".join(map(str, sorted(values)))

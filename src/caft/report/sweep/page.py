"""A sweep's report as one HTML page. Pure."""

from __future__ import annotations

from caft.report.page import render_page
from caft.report.sweep import tables
from caft.report.sweep.figures import draw_sweep
from caft.report.sweep.job_results import FINISHED
from caft.report.sweep.schema import SweepSummary
from caft.report.sweep.summary import SweepResults
from caft.statistics import ALPHA, MARGIN, WORTHWHILE_GAIN

_COLUMNS_OF_ARMS = ("setting", "seeds", "accuracy", "over seeds", "mode", "tokens per question")


def render_sweep(found: SweepResults) -> str:
    """The page of a sweep."""
    summary = found.summary
    arms, bases, savings = summary["arms"], summary["bases"], summary["savings"]
    modes = [f"{mode} mode" for mode in tables.list_modes([*bases, *arms])]
    values = {
        "title": summary["question"] or summary["name"],
        "summary": summary,
        "lead": found.advice,
        "headlines": found.answers[1:],
        "warnings": summary["warnings"],
        "advice": _suggest_next(summary),
        "alpha": ALPHA,
        "worthwhile": f"{100 * WORTHWHILE_GAIN:g} points",
        "figures": draw_sweep(arms),
        "budget": "teacher" if any(arm["cost"]["teacher_calls"] for arm in arms) else "rationale",
        "arms": tables.tabulate_arms(arms, bases).select(*_COLUMNS_OF_ARMS, *modes),
        "classes": tables.tabulate_classes(arms),
        "tests": tables.tabulate_tests(summary["routing"]["tests"]),
        "comparisons": tables.tabulate_comparisons(summary["comparisons"]),
        "costs": tables.tabulate_savings(savings, arms) if savings else None,
        "forgetting": tables.tabulate_forgetting(summary.get("forgetting", [])),
        "margin": f"{100 * MARGIN:g} points",
        "jobs": tables.tabulate_jobs(summary["jobs"], found.address_of),
    }
    return render_page("sweep.html.j2", ("tables.js", "values.js"), values)


def _suggest_next(summary: SweepSummary) -> str:
    if set(summary["counts"]) - {FINISHED}:
        return "Its command, given again, runs what is missing; this page may be made at any time."
    if not summary["routing"]["tests"]:
        return "Is it the routing? Run multirun_sweeps=routing_control on the same model and data."
    if any(len(arm["seeds"]) < 3 for arm in summary["arms"]):
        return (
            "More seeds: the same command with seed=1,2,3,4,5; the store has what is finished of "
            "them."
        )
    return "The pages of the single jobs hold their questions and replies."

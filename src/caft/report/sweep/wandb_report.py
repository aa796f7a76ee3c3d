"""A sweep as a report in Weights & Biases: prose and tables of ours over panels of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.errors import UserError
from caft.report.sweep.markdown import tabulate, tabulate_tests
from caft.report.wording import area_between, percent_between, usd

_PRICES = (
    ("cost/teacher_completion_tokens", "teacher tokens"),
    ("cost/teacher_calls", "teacher calls"),
    ("cost/trained_total_tokens", "trained tokens"),
    ("cost/teacher_usd", "USD"),
)


def publish_report(folder: Path, project: str, *, draft: bool) -> str:
    """Save a report on the sweep in `folder`, whose summary.json is there; returns its address.

    `project` is ENTITY/PROJECT, where the sweep's runs were logged with logger=wandb. UserError
    where the extra is missing, nobody is logged in or the project cannot be found.
    """
    entity, name = _read_project(project)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    report = build_report(summary, group=folder.resolve().name, entity=entity, project=name)
    try:
        report.save(draft=draft)
    except Exception as error:
        # The library raises plain exceptions, for want of a login as well as of a network.
        raise UserError(
            f"the W&B report could not be saved: {_first_line(error)}; check {project}, "
            "the login (wandb login) and the network. report.html is written"
        ) from error
    return str(report.url)


def _read_project(project: str) -> tuple[str, str]:
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise UserError(f"--wandb is {project!r}; give ENTITY/PROJECT")
    return entity, name


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def build_report(summary: Mapping[str, Any], *, group: str, entity: str, project: str) -> Any:
    """The unsaved report of a sweep's summary; its runs are those of W&B's `group`."""
    reports = _import_reports()
    return reports.Report(
        entity=entity,
        project=project,
        title=f"CAFT sweep {summary['name']}"[:128],
        description=summary["routing"]["sentence"],
        width="fluid",
        blocks=[
            reports.TableOfContents(),
            *_write_findings(reports, summary),
            reports.H1("Settings"),
            reports.MarkdownBlock(text=tabulate_arms(summary["arms"])),
            reports.H1("Routing against chance"),
            reports.MarkdownBlock(text=tabulate_routing(summary["routing"])),
            reports.H1("Runs"),
            *_draw_panels(reports, summary, group, entity, project),
        ],
    )


def _import_reports() -> Any:
    try:
        import wandb_workspaces.reports.v2 as reports
    except ImportError as error:
        raise UserError(
            "wandb-workspaces is not installed; pip install 'caft[report]', or leave out --wandb"
        ) from error
    return reports


def _write_findings(reports: Any, summary: Mapping[str, Any]) -> list[Any]:
    blocks = [reports.H1("Findings")]
    for answer in summary["answers"]:
        blocks += [reports.H3(answer["asked"]), reports.P(answer["answer"])]
    return blocks


def tabulate_arms(arms: Sequence[Mapping[str, Any]]) -> str:
    """The headline table in Markdown."""
    rows = [
        (
            arm["name"],
            str(len(arm["seeds"])),
            percent_between(arm["accuracy"]),
            ", ".join(arm["modes"]),
            f"{arm['cost']['rationales_kept']:,.0f}",
            f"{arm['cost']['trained_total_tokens']:,.0f}",
            usd(arm["cost"]["teacher_usd"]),
            ", ".join(f"{cut:.3g}" for cut in arm["thresholds"]),
        )
        for arm in arms
    ]
    head = ("setting", "seeds", "accuracy", "mode", "rationales", "trained tokens", "USD",
            "cut points")  # fmt: skip
    return tabulate(head, rows, _escape)


def tabulate_routing(routing: Mapping[str, Any]) -> str:
    """The answer in a sentence, and its tests in Markdown."""
    tests = tabulate_tests(routing["tests"], _escape)
    return f"**{_escape(routing['sentence'])}**\n\n{tests}"


def _escape(text: str) -> str:
    """Names are data: no markup of Markdown or HTML, and no end of a cell."""
    marked = "".join(f"\\{letter}" if letter in "\\|*_`[]<>#" else letter for letter in text)
    return " ".join(marked.split())


def _draw_panels(
    reports: Any, summary: Mapping[str, Any], group: str, entity: str, project: str
) -> list[Any]:
    runsets = [
        _select_runs(reports, method, group, entity, project)
        for method in dict.fromkeys(arm["method"] for arm in summary["arms"])
    ]
    if not runsets:
        return []
    panels = [
        *_draw_prices(reports, summary["arms"]),
        *_draw_cuts(reports, summary["arms"]),
        *_draw_areas(reports, summary["jobs"]),
    ]
    note = reports.P(_say_areas(summary["jobs"]))
    return [note, reports.PanelGrid(runsets=runsets, panels=panels)]


def _select_runs(reports: Any, method: str, group: str, entity: str, project: str) -> Any:
    from wandb_workspaces import expr

    filters = expr.And(expr.Metric("Group") == group, expr.Metric("JobType") == method)
    return reports.Runset(entity=entity, project=project, name=method, filters=filters)


def _accuracies(arms: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Summary metrics of the modes that were chosen on validation questions."""
    modes = sorted({mode for arm in arms for mode in arm["modes"]})
    return [(f"accuracy/tuned/{mode}/value", f"accuracy, {mode} mode") for mode in modes]


def _draw_prices(reports: Any, arms: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [
        _scatter(reports, price, accuracy, f"{said} by {words}")
        for accuracy, said in _accuracies(arms)
        for price, words in _PRICES
    ]


def _draw_cuts(reports: Any, arms: Sequence[Mapping[str, Any]]) -> list[Any]:
    cuts = max((len(arm["thresholds"]) for arm in arms), default=0)
    return [
        _scatter(reports, f"split/thresholds/{k}", accuracy, f"{said} by cut point {k + 1}")
        for accuracy, said in _accuracies(arms)
        for k in range(cuts)
    ]


def _scatter(reports: Any, x: str, y: str, title: str) -> Any:
    return reports.ScatterPlot(x=reports.SummaryMetric(x), y=reports.SummaryMetric(y), title=title)


def _draw_areas(reports: Any, jobs: Sequence[Mapping[str, Any]]) -> list[Any]:
    if not any(job["roc_auc"] for job in jobs):
        return []
    curve = reports.LinePlot(
        title="ROC curve of the base model's mistakes",
        x="roc/false_positive_rate",
        y=["roc/true_positive_rate"],
        range_x=(0, 1),
        range_y=(0, 1),
    )
    areas = reports.BarPlot(
        title="ROC AUC by estimate",
        metrics=[f"score/roc_auc/{name}/value" for name in ("answer_entropy", "option_entropy")],
        range_x=(0, 1),
    )
    return [curve, areas]


def _say_areas(jobs: Sequence[Mapping[str, Any]]) -> str:
    areas = dict.fromkeys(area_between(job["roc_auc"]) for job in jobs if job["roc_auc"])
    if not areas:
        return "No job has a ROC AUC."
    return f"ROC AUC of the estimate in use against the base model's mistakes: {', '.join(areas)}."

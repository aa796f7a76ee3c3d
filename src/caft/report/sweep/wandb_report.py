"""A sweep as a report in Weights & Biases: prose and tables of ours over panels of its runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from caft.errors import UserError
from caft.report.sweep.markdown import write_table
from caft.report.sweep.schema import ArmPart, SweepSummary
from caft.report.sweep.tables import tabulate_arms, tabulate_tests
from caft.report.wording import area_between

_PRICES = (
    ("cost/teacher_completion_tokens", "teacher tokens"),
    ("cost/teacher_calls", "teacher calls"),
    ("cost/trained_total_tokens", "trained tokens"),
    ("cost/teacher_usd", "USD"),
)
_COLUMNS = ("setting", "seeds", "accuracy", "mode", "rationales", "trained tokens", "USD",
            "cut points")  # fmt: skip


def publish_report(folder: Path, project: str, *, draft: bool) -> str:
    """Save a report on the sweep in `folder`, whose summary.json is there; returns its address.

    `project` is ENTITY/PROJECT, where the sweep's runs were logged with logger=wandb. UserError
    if the extra is missing, or W&B refuses: no login, no such project.
    """
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise UserError(f"--wandb is {project!r}; give ENTITY/PROJECT")
    summary: SweepSummary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    report = build_report(summary, group=folder.resolve().name, entity=entity, project=name)
    try:
        report.save(draft=draft)
    except Exception as error:
        # The library raises plain exceptions, for a missing login as well as for a missing network.
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the W&B report could not be saved: {first_line}; check {project}, "
            "the login (wandb login) and the network. report.html is written"
        ) from error
    return str(report.url)


def build_report(summary: SweepSummary, *, group: str, entity: str, project: str) -> Any:
    """The unsaved report of a sweep's summary; its runs are those of W&B's `group`."""
    reports = _import_reports()
    routing = summary["routing"]
    settings = write_table(
        tabulate_arms(summary["arms"], summary["bases"]).select(*_COLUMNS), _escape
    )
    tests = write_table(tabulate_tests(routing["tests"]), _escape)
    answers = [
        block
        for answer in summary["answers"]
        for block in (reports.H3(answer["asked"]), reports.P(answer["answer"]))
    ]
    return reports.Report(
        entity=entity,
        project=project,
        title=f"CAFT sweep {summary['name']}"[:128],
        description=routing["sentence"],
        width="fluid",
        blocks=[
            reports.TableOfContents(),
            reports.H1("Findings"),
            *answers,
            reports.H1("Settings"),
            reports.MarkdownBlock(text=settings),
            reports.H1("Entropy against random routing"),
            reports.MarkdownBlock(text=f"**{_escape(routing['sentence'])}**\n\n{tests}"),
            reports.H1("Runs"),
            *_show_runs(reports, summary, group, entity, project),
        ],
    )


def _import_reports() -> ModuleType:
    try:
        return import_module("wandb_workspaces.reports.v2")
    except ImportError as error:
        raise UserError(
            "wandb-workspaces is not installed; pip install 'caft[report]', or leave out --wandb"
        ) from error


def _escape(text: str) -> str:
    """Names are data: no markup of Markdown or HTML, and no end of a cell."""
    marked = "".join(f"\\{letter}" if letter in "\\|*_`[]<>#" else letter for letter in text)
    return " ".join(marked.split())


def _show_runs(
    reports: ModuleType, summary: SweepSummary, group: str, entity: str, project: str
) -> list[object]:
    """A set of runs for each method, and panels over all of them."""
    from wandb_workspaces import expr

    if not summary["arms"]:
        return []
    of_group = expr.Metric("Group") == group
    runsets = [
        reports.Runset(entity=entity, project=project, name=method,
                       filters=expr.And(of_group, expr.Metric("JobType") == method))
        for method in dict.fromkeys(arm["method"] for arm in summary["arms"])
    ]  # fmt: skip
    areas = dict.fromkeys(area_between(job["roc_auc"]) for job in summary["jobs"] if job["roc_auc"])
    note = "ROC AUC of the estimate in use against the base model's mistakes: "
    panels = _draw_accuracies(reports, summary["arms"]) + (_draw_areas(reports) if areas else [])
    return [
        reports.P(f"{note}{', '.join(areas) or 'none'}."),
        reports.PanelGrid(runsets=runsets, panels=panels),
    ]


def _draw_accuracies(reports: ModuleType, arms: Sequence[ArmPart]) -> list[object]:
    """Accuracy in each mode that was chosen on validation questions, by price and cut point."""
    modes = sorted({mode for arm in arms for mode in arm["modes"]})
    cuts = range(max(len(arm["thresholds"]) for arm in arms))
    of_cuts = [(f"split/thresholds/{k}", f"cut point {k + 1}") for k in cuts]
    return [
        reports.ScatterPlot(
            x=reports.SummaryMetric(metric),
            y=reports.SummaryMetric(f"accuracy/tuned/{mode}/value"),
            title=f"accuracy, {mode} mode by {words}",
        )
        for mode, (metric, words) in product(modes, (*_PRICES, *of_cuts))
    ]


def _draw_areas(reports: ModuleType) -> list[object]:
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

"""A sweep as a report in Weights & Biases: prose and tables of ours over panels of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Protocol

from caft.errors import UserError
from caft.report.sweep.markdown import write_table
from caft.report.sweep.schema import ArmPart, JobPart, SweepSummary
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


class Report(Protocol):
    """What this module needs of a report of wandb_workspaces."""

    blocks: Sequence[object]
    url: str

    def save(self, *, draft: bool) -> object:
        """Send it to W&B."""
        ...


def publish_report(folder: Path, project: str, *, draft: bool) -> str:
    """Save a report on the sweep in `folder`, whose summary.json is there; returns its address.

    `project` is ENTITY/PROJECT, where the sweep's runs were logged with logger=wandb. UserError
    where the extra is missing, nobody is logged in or the project cannot be found.
    """
    entity, name = _read_project(project)
    summary: SweepSummary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
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


def build_report(summary: SweepSummary, *, group: str, entity: str, project: str) -> Report:
    """The unsaved report of a sweep's summary; its runs are those of W&B's `group`."""
    reports = _import_reports()
    routing, arms = summary["routing"], summary["arms"]
    answers = [
        block
        for answer in summary["answers"]
        for block in (reports.H3(answer["asked"]), reports.P(answer["answer"]))
    ]
    settings = write_table(tabulate_arms(arms).select(*_COLUMNS), _escape)
    tests = write_table(tabulate_tests(routing["tests"]), _escape)
    report: Report = reports.Report(
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
            reports.H1("Routing against chance"),
            reports.MarkdownBlock(text=f"**{_escape(routing['sentence'])}**\n\n{tests}"),
            reports.H1("Runs"),
            *_show_runs(reports, summary, group, entity, project),
        ],
    )
    return report


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

    arms, jobs = summary["arms"], summary["jobs"]
    if not arms:
        return []
    of_group = expr.Metric("Group") == group
    runsets = [
        reports.Runset(entity=entity, project=project, name=method,
                       filters=expr.And(of_group, expr.Metric("JobType") == method))
        for method in dict.fromkeys(arm["method"] for arm in arms)
    ]  # fmt: skip
    cuts = max(len(arm["thresholds"]) for arm in arms)
    of_cuts = [(f"split/thresholds/{k}", f"cut point {k + 1}") for k in range(cuts)]
    panels = [
        *_draw_accuracies(reports, arms, _PRICES),
        *_draw_accuracies(reports, arms, of_cuts),
        *_draw_areas(reports, jobs),
    ]
    areas = dict.fromkeys(area_between(job["roc_auc"]) for job in jobs if job["roc_auc"])
    note = "No job has a ROC AUC."
    if areas:
        listed = ", ".join(areas)
        note = f"ROC AUC of the estimate in use against the base model's mistakes: {listed}."
    return [reports.P(note), reports.PanelGrid(runsets=runsets, panels=panels)]


def _draw_accuracies(
    reports: ModuleType, arms: Sequence[ArmPart], metrics: Iterable[tuple[str, str]]
) -> list[object]:
    """Accuracy in each mode that was chosen on validation questions, against each metric."""
    modes = sorted({mode for arm in arms for mode in arm["modes"]})
    return [
        reports.ScatterPlot(
            x=reports.SummaryMetric(metric),
            y=reports.SummaryMetric(f"accuracy/tuned/{mode}/value"),
            title=f"accuracy, {mode} mode by {words}",
        )
        for mode, (metric, words) in product(modes, metrics)
    ]


def _draw_areas(reports: ModuleType, jobs: Sequence[JobPart]) -> list[object]:
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

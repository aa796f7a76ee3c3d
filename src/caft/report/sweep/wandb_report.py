"""A sweep as a report in Weights & Biases: prose and tables of ours over panels of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from caft.errors import UserError, first_line
from caft.program import install_hint
from caft.report.sweep.job_results import FINISHED
from caft.report.sweep.markdown import write_table
from caft.report.sweep.schema import ArmPart, SweepSummary
from caft.report.sweep.tables import tabulate_arms, tabulate_tests
from caft.report.wording import area_between
from caft.sums import read_summary

_PRICES = {
    "teacher_tokens": "teacher_tokens",
    "teacher_calls": "teacher_calls",
    "trained_tokens": "trained_total_tokens",
    "usd": "usd",
}
"""Keys of a run's headline in W&B, each with its key in the cost of an arm."""
_COLUMNS = ("setting", "seeds", "accuracy", "mode", "rationales", "trained tokens", "USD",
            "cut points")  # fmt: skip


def publish_report(folder: Path, summary: SweepSummary, project: str, *, draft: bool) -> str:
    """Save a report on the sweep in `folder`; returns its address.

    `project` is ENTITY/PROJECT, where the sweep's runs were logged with logger=wandb. UserError
    if the extra is missing, or W&B refuses: no login, no such project.
    """
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise UserError(f"--wandb is {project!r}; give ENTITY/PROJECT")
    finished = [job["folder"] for job in summary["jobs"] if job["state"] == FINISHED]
    runs = [run for job in finished if (run := read_summary(folder / job))]
    stages = max((len(run["method"]["stages"]) for run in runs), default=0)
    place = Place(entity, name, group=folder.resolve().name)
    report = build_report(summary, place, stages)
    try:
        report.save(draft=draft)
    except Exception as error:
        # The library raises plain exceptions, for a missing login as well as for a missing network.
        raise UserError(
            f"the W&B report could not be saved: {first_line(error)}; check {project}, "
            "the login (wandb login) and the network. report.html is written"
        ) from error
    return str(report.url)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sweep's runs are: W&B's entity, project and group."""

    entity: str
    project: str
    group: str


def build_report(summary: SweepSummary, place: Place, stages: int) -> Any:
    """The unsaved report of a sweep's summary; `stages` is the largest number of tuning stages."""
    reports = _import_reports()
    settings = write_table(
        tabulate_arms(summary["arms"], summary["bases"]).select(*_COLUMNS), _escape
    )
    tests = write_table(tabulate_tests(summary["routing"]["tests"]), _escape)
    answers = [
        block
        for answer in summary["answers"]
        for block in (reports.H3(answer["asked"]), reports.P(answer["answer"]))
    ]
    return reports.Report(
        entity=place.entity,
        project=place.project,
        title=(summary["question"] or f"CAFT sweep {summary['name']}")[:128],
        description=summary["allocation"]["sentence"],
        width="fluid",
        blocks=[
            reports.TableOfContents(),
            reports.H1("Findings"),
            *answers,
            reports.H1("Settings"),
            reports.MarkdownBlock(text=settings),
            reports.H1("Routing against random routing"),
            reports.MarkdownBlock(text=tests),
            reports.H1("Runs"),
            *_show_runs(reports, summary, place, stages),
        ],
    )


def _import_reports() -> ModuleType:
    try:
        return import_module("wandb_workspaces.reports.v2")
    except ImportError as error:
        raise UserError(
            f"wandb-workspaces is not installed; {install_hint('report')}, or leave out --wandb"
        ) from error


def _escape(text: str) -> str:
    """Names are data: no markup of Markdown or HTML, and no end of a cell."""
    marked = "".join(f"\\{letter}" if letter in "\\|*_`[]<>#" else letter for letter in text)
    return " ".join(marked.split())


def _show_runs(
    reports: ModuleType, summary: SweepSummary, place: Place, stages: int
) -> list[object]:
    """A set of runs for each method, and panels over all of them."""
    from wandb_workspaces import expr

    if not summary["arms"]:
        return []
    of_group = expr.Metric("Group") == place.group
    runsets = [
        reports.Runset(entity=place.entity, project=place.project, name=method,
                       filters=expr.And(of_group, expr.Metric("JobType") == method))
        for method in dict.fromkeys(arm["method"] for arm in summary["arms"])
    ]  # fmt: skip
    areas = dict.fromkeys(area_between(job["roc_auc"]) for job in summary["jobs"] if job["roc_auc"])
    note = "ROC AUC of the estimate in use against the base model's mistakes: "
    panels = [
        *_draw_accuracies(reports, summary["arms"]),
        *_draw_learning(reports, stages),
        *(_draw_areas(reports) if areas else ()),
        reports.WeavePanelSummaryTable(
            table_name="tables/predictions", layout=reports.Layout(w=24, h=10)
        ),
    ]
    return [
        reports.P(f"{note}{', '.join(areas) or 'none'}."),
        reports.PanelGrid(runsets=runsets, panels=panels),
    ]


def _draw_accuracies(reports: ModuleType, arms: Sequence[ArmPart]) -> Iterator[object]:
    """Accuracy in each run's best mode by what differs: cut point, and prices that were paid."""
    axes = [key for key, cost in _PRICES.items() if any(arm["cost"][cost] for arm in arms)]
    if len({arm["thresholds"][-1] for arm in arms if arm["thresholds"]}) > 1:
        axes.append("hard_cut")
    for key in axes:
        yield reports.ScatterPlot(
            x=reports.SummaryMetric(key),
            y=reports.SummaryMetric("accuracy"),
            title=f"Test accuracy by {key.replace('_', ' ')}",
        )


def _draw_learning(reports: ModuleType, stages: int) -> Iterator[object]:
    for stage in range(1, stages + 1):
        for metric in ("loss", "validation/accuracy"):
            yield reports.LinePlot(
                title=f"{metric.replace('/', ' ').capitalize()}, tuning stage {stage}",
                x=f"tune_{stage}/step",
                y=[f"tune_{stage}/{metric}"],
            )


def _draw_areas(reports: ModuleType) -> list[object]:
    curve = reports.LinePlot(
        title="ROC curve of the base model's mistakes",
        x="roc/false_positive_rate",
        y=["roc/true_positive_rate"],
        range_x=(0, 1),
        range_y=(0, 1),
    )
    return [curve, reports.BarPlot(title="ROC AUC", metrics=["roc_auc"], range_x=(0, 1))]

"""The spec of the W&B report, with the library's two doors to the network replaced at loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.report.__main__ import main
from caft.report.sweep import Sweep, analyse_sweep, write_sweep_report
from caft.report.sweep.wandb_report import Place, build_report, publish_report

reports = pytest.importorskip("wandb_workspaces.reports.v2", reason="the extra report is missing")
ADDRESS = "http://127.0.0.1:9"
AXES = {"teacher_tokens", "teacher_calls", "trained_tokens", "usd"}


class Api:
    """The two things that a report asks W&B's API for."""

    class client:  # noqa: N801
        app_url = ADDRESS

    def projects(self, _entity: str) -> list[Any]:
        return [type("Project", (), {"name": "caft"})]


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every report that was saved, as the variables of its mutation."""
    from wandb_workspaces.reports.v2 import interface

    sent: list[dict[str, Any]] = []

    def answer(_api: Any, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        if "upsertView" not in query:
            return {"project": {"internalId": "cHJvamVjdA=="}}
        sent.append(dict(variables))
        view = {"id": "Vmlldzox", "name": variables["name"], "spec": variables["spec"],
                "displayName": variables["displayName"], "description": "",
                "project": {"id": "p", "name": "caft", "entityName": "me"},
                "updatedAt": "2026-11-24T10:00:00Z"}  # fmt: skip
        return {"upsertView": {"view": view, "inserted": True}}

    monkeypatch.setenv("WANDB_BASE_URL", ADDRESS)
    monkeypatch.setattr(interface, "_get_api", Api)
    monkeypatch.setattr(interface, "execute_graphql", answer)
    monkeypatch.setattr(interface, "get_app_url", lambda _api: ADDRESS)
    return sent


def walk(part: Any) -> Any:
    yield part
    children = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for child in children:
        yield from walk(child)


def test_the_saved_spec_holds_prose_tables_run_sets_and_panels(
    sweep_folder: Path, saved: list[dict[str, Any]]
) -> None:
    summary = write_sweep_report(sweep_folder)
    address = publish_report(sweep_folder, summary, "me/caft", draft=True)
    assert address.startswith(f"{ADDRESS}/me/caft/reports/")
    (variables,) = saved
    assert variables["type"] == "runs/draft"
    assert (variables["entityName"], variables["projectName"]) == ("me", "caft")
    spec = json.loads(variables["spec"])
    text = json.dumps(spec, ensure_ascii=False)
    for text_of in ("Does entropy routing beat random routing at an equal budget?",
                 "complexity\\\\_aware, entropy", "62.0% (", "0.5, 1.5"):  # fmt: skip
        assert text_of in text, text_of

    sets = [part for part in walk(spec) if isinstance(part, dict) and "runFeed" in part]
    assert [part["name"] for part in sets] == ["sft", "distill", "complexity_aware"]
    for part in sets:
        filters = json.dumps(part["filters"])
        assert '"sweep"' in filters
        assert f'"{part["name"]}"' in filters
    views = [part for part in walk(spec) if isinstance(part, dict) and "viewType" in part]
    kinds = [part["viewType"] for part in views]
    assert {"Bar Chart", "Run History Line Plot", "Weave"} <= set(kinds)
    assert "tables/predictions" in text
    drawn = {(part["config"]["xAxis"], part["config"]["yAxis"]) for part in views
             if part["viewType"] == "Scatter Plot"}  # fmt: skip
    assert drawn == {(f"summary:{axis}", "summary:accuracy") for axis in AXES}
    curves = {(part["config"]["xAxis"], *part["config"]["metrics"]) for part in views
              if part["viewType"] == "Run History Line Plot"}  # fmt: skip
    assert curves == {
        ("roc/false_positive_rate", "roc/true_positive_rate"),
        *((f"tune_{stage}/step", f"tune_{stage}/{metric}")
          for stage in (1, 2) for metric in ("loss", "validation/accuracy")),
    }  # fmt: skip


def test_the_command_prints_the_address(
    sweep_folder: Path, saved: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep_folder), "--wandb", "me/caft"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(ADDRESS)
    assert saved[0]["type"] == "runs"


def test_a_sweep_without_finished_jobs_still_builds(tmp_path: Path) -> None:
    (tmp_path / "0_a" / ".hydra").mkdir(parents=True)
    summary = write_sweep_report(tmp_path)
    report = build_report(summary, Place("me", "caft", group="x"), stages=0)
    assert not any(isinstance(block, reports.PanelGrid) for block in report.blocks)


def test_the_title_is_the_question_and_no_axis_is_all_zero(
    make_job: Callable[..., Any],
) -> None:
    jobs = [make_job(0, method="sft"), make_job(1, method="complexity_aware", cuts=(0.5, 2.0))]
    for job in jobs:
        job.summary["cost"]["teacher_usd"] = 0.0
    found = analyse_sweep(Sweep(name="x", question="What does it cost?", jobs=jobs), "").summary
    report = build_report(found, Place("me", "caft", group="x"), stages=2)
    assert report.title == "What does it cost?"
    assert report.description == found["allocation"]["sentence"]
    (grid,) = (block for block in report.blocks if isinstance(block, reports.PanelGrid))
    axes = [panel.x.name for panel in grid.panels if isinstance(panel, reports.ScatterPlot)]
    assert set(axes) == AXES - {"usd"} | {"hard_cut"}


def test_names_cannot_break_out_of_their_cell(make_job: Callable[..., Any]) -> None:
    job = replace(make_job(0, method="sft"), overrides=("split=entropy", "method=a | b\n<script>"))
    other = make_job(1, method="distill")
    report = build_report(
        analyse_sweep(Sweep(name="x", jobs=[job, other]), "").summary,
        Place("me", "caft", group="x"), stages=1,
    )  # fmt: skip
    settings, _ = (b.text for b in report.blocks if isinstance(b, reports.MarkdownBlock))
    lines = settings.splitlines()
    assert len(lines) == 5
    assert lines[3].startswith("| a \\| b \\<script\\> | 1 |")


@pytest.mark.parametrize("project", ["caft", "/caft", "me/", "me/caft/more"])
def test_a_project_without_its_entity_is_refused(sweep_folder: Path, project: str) -> None:
    with pytest.raises(UserError, match="give ENTITY/PROJECT"):
        publish_report(sweep_folder, write_sweep_report(sweep_folder), project, draft=False)


def test_a_report_that_cannot_be_saved_is_one_line(
    sweep_folder: Path, saved: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from wandb_workspaces.reports.v2 import interface

    def fail(*_: Any) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(interface, "execute_graphql", fail)
    assert main([str(sweep_folder), "--wandb", "me/caft"]) == 2
    assert "could not be saved: no route to host; check me/caft" in capsys.readouterr().err
    assert (sweep_folder / "report.html").exists()

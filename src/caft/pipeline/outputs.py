"""Writes what every run leaves in its folder: summary.json, tables, page, adapter."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from caft.console import open_console
from caft.decoration import or_without
from caft.models.encoding import uses_chat_template
from caft.pipeline.delivery import (
    DELIVERED,
    deliver,
    describe_recipe,
    describe_template,
    set_aside,
)
from caft.pipeline.engine_gate import engine_part
from caft.pipeline.results import RunResults, Tuned
from caft.pipeline.rows import further_rows, prediction_rows, rationale_rows, score_rows
from caft.pipeline.summary import build_summary, collect_further, collect_tables
from caft.pipeline.tracking import track_run
from caft.pipeline.workspace import Workspace
from caft.program import find_project
from caft.report.check import check_summary
from caft.report.forgetting import measure_forgetting
from caft.report.run.html import render_report
from caft.report.run.model_card import Weights, write_card
from caft.report.run.terminal import print_summary
from caft.report.schema import ModelPart, RunPart, Summary
from caft.report.tables import ReportTables
from caft.run_config import RunConfig
from caft.score.config import PublishedScoreConfig
from caft.store import disk_may_be_full, make_all_durable, make_durable, write_durably, write_rows
from caft.sums import SUMS, read_summary, write_sums
from caft.trainers.tracker import RunLogger

log = logging.getLogger(__name__)
_WHERE_THERE_IS_NO_ROOM = (
    "make room there and run the same command again (it takes finished stages from the store)"
)
_GIT_SECONDS = 10.0
_VERSIONS = ("caft", "torch", "transformers", "peft", "pytorch-lightning", "hydra-core")


def write_outputs(
    workspace: Workspace, results: RunResults, tracker: RunLogger, *, started: datetime
) -> bool:
    """summary.json, report.html, tables and adapter into the run's folder; then one screen.

    Returns whether the page could be drawn: an error there is a bug of ours and loses no numbers.
    UserError if the folder's disk is full.
    """
    config, folder = workspace.config, workspace.context.folder
    prompt = config.dataset.prompt
    tables = collect_tables(workspace.questions, results, prompt.option_ids)
    run, model = _describe_run(workspace, started), _describe_model(workspace, results)
    engine, further = engine_part(workspace), collect_further(workspace.further, results.evaluated)
    left_out = {each.name: each.in_training for each in workspace.further}
    forgetting = measure_forgetting(further, left_out, config.evaluation.confidence)
    summary = check_summary(
        build_summary(
            config, workspace.questions, results, tables, run, model,
            engine=engine, forgetting=forgetting,
        )
    )  # fmt: skip
    with disk_may_be_full(folder, _WHERE_THERE_IS_NO_ROOM):
        written = _write_tables(folder, results, tables, further if forgetting else {})
        drawn = _write_files(workspace, results, tables, summary, written)
    # From here on all required outputs are written.
    track = partial(track_run, tracker, results, tables, summary, folder)
    or_without("what the logger shows", track, None)
    or_without("the summary on the terminal", partial(_print, summary, folder), None)
    return drawn


def _write_tables(
    folder: Path, results: RunResults, tables: ReportTables, further: Mapping[str, ReportTables]
) -> list[str]:
    """The names of the tables that this run has rows for, which are written.

    The others are set aside: a run of another config may have ended early in this folder.
    """
    own, taught = results.own, results.rationales
    found = {
        "scores.parquet": score_rows(results.scored.scores, tables),
        "predictions.parquet": prediction_rows(tables) if tables.predictions else None,
        "forgetting.parquet": further_rows(further) if further else None,
        "rationales.parquet": rationale_rows(taught) if taught else None,
        "own_rationales.parquet": rationale_rows(own) if own else None,
    }
    for name, rows in found.items():
        if rows is None:
            set_aside(folder / name)
        else:
            write_rows(folder / name, rows)
    return [name for name, rows in found.items() if rows is not None]


def _write_files(
    workspace: Workspace,
    results: RunResults,
    tables: ReportTables,
    summary: Summary,
    written: Sequence[str],
) -> bool:
    config, folder = workspace.config, workspace.context.folder
    delivered = _deliver(workspace, results.tuned, summary) if results.tuned else ()
    for name in DELIVERED:
        if name not in delivered and (folder / name).is_dir():
            log.warning("%s is not of this run, which leaves no such weights", folder / name)
    # Whoever finds a summary finds all that it speaks of, also after a power loss.
    for name in written:
        make_durable(folder / name)
    for name in delivered:
        make_all_durable(folder / name)
    earlier = (read_summary(folder) or {}).get("run")
    goes_on = isinstance(earlier, dict) and earlier.get("overrides") == summary["run"]["overrides"]
    # Before the page and the logger, so that their failures do not affect it.
    write_durably(folder / "summary.json", json.dumps(summary, indent=1))
    write_sums(folder, ["summary.json", *written])
    make_durable(folder / SUMS)
    if not goes_on:
        set_aside(folder / "report.html")
    return not config.report.html or _write_page(workspace, summary, tables)


def _deliver(workspace: Workspace, tuned: Tuned, summary: Summary) -> Sequence[str]:
    config, student = workspace.config, tuned.student

    def make_card(weights: Weights) -> str | None:
        def write() -> str:
            recipe = describe_recipe(config, student, workspace.questions.train[0])
            return write_card(summary, recipe, weights)

        return or_without("the model card", write, None)

    return deliver(
        student,
        tuned.weights,
        workspace.context.folder,
        make_card,
        merge=config.tuning.merge,
        chat=uses_chat_template(config.dataset.prompt.style, student.tokenizer),
    )


def _write_page(workspace: Workspace, summary: Summary, tables: ReportTables) -> bool:
    config = workspace.config
    try:
        page = render_report(
            summary,
            tables,
            workspace.context.config_yaml,
            config.name,
            questions=config.report.questions,
        )
    except Exception:
        # The numbers are worth more than the page that shows them.
        log.exception("report.html could not be drawn; summary.json and the tables are complete")
        return False
    write_durably(workspace.context.folder / "report.html", page)
    return True


def _describe_run(workspace: Workspace, started: datetime) -> RunPart:
    config, finished = workspace.config, datetime.now(UTC)
    return {
        "name": config.name,
        "seed": config.seed,
        "overrides": list(workspace.context.overrides),
        "git_commit": or_without("the commit", _git_commit, None),
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "versions": or_without("the versions of packages", _versions, dict[str, str]()),
        "device": or_without("the device's name", partial(_device_name, config), "unknown"),
        "seconds": (finished - started).total_seconds(),
    }


def _describe_model(workspace: Workspace, results: RunResults) -> ModelPart:
    config = workspace.config
    part: ModelPart = {
        "id": config.model.path or config.model.id,
        "revision": None,
        "parameters": None,
        "trainable_parameters": None,
    }
    # With published scores the model itself may not even be on this machine.
    published = isinstance(config.score, PublishedScoreConfig)
    if published and not (results.rationales or results.own or results.tuned or results.evaluated):
        return part
    student = workspace.student
    part["revision"] = student.revision
    part["parameters"] = or_without("the model's size", lambda: student.parameters, None)
    describe = partial(describe_template, config, student)
    if template := or_without("the chat template's date", describe, None):
        part["template_date"], part["template_bridge"] = template
    return part


def _git_commit() -> str | None:
    """CAFT's own. An installed package has none: a repository around it is of something else."""
    project = find_project()
    if project is None:
        return None
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        # Git on a network drive may hang.
        timeout=_GIT_SECONDS,
    )
    return found.stdout.strip() or None if found.returncode == 0 else None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _device_name(config: RunConfig) -> str:
    """Device, the dtype in which the student multiplies, threads: "cpu, float32, 2 threads"."""
    import torch

    from caft.models.loading import name_dtype
    from caft.trainers.devices import pick_device
    from caft.trainers.distributed import describe_threads

    device = pick_device(config.trainer)
    dtype = name_dtype(config.model, device)
    name = f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device
    return f"{name}, {dtype}, {describe_threads(config.trainer.devices)}"


def _print(summary: Summary, folder: Path) -> None:
    print_summary(summary, folder, open_console())

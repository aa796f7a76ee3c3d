"""Reads a sweep's folder and writes its report. The only file here that uses the disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caft.errors import UserError
from caft.program import name_command
from caft.report.check import check_part
from caft.report.schema import Summary
from caft.report.sweep.arms import Arm, budget_key, count_of_cost, find_arms
from caft.report.sweep.job_results import FINISHED, JobResult, Sweep
from caft.report.sweep.page import render_sweep
from caft.report.sweep.schema import SweepSummary
from caft.report.sweep.summary import analyse_sweep
from caft.store import disk_may_be_full, read_rows, write_durably, write_rows
from caft.sums import find_changed

_OF_A_REPLY = ("question_id", "model", "mode", "correct", "generated_tokens")
_MARKS_OF_A_JOB = ("summary.json", "run.log", ".hydra")


def write_sweep_report(folder: Path) -> Path:
    """Write the page, summary.json and predictions.parquet of `folder`; returns the page's path.

    May be called at any time, also while jobs are running. UserError if there is no job,
    and where the disk is full.
    """
    sweep = read_sweep(folder)
    found = analyse_sweep(sweep, datetime.now(UTC).isoformat(timespec="seconds"))
    check_part(found.summary, SweepSummary, "summary")
    page, text = folder / "report.html", render_sweep(found)
    with disk_may_be_full(folder, "make room there and write the report again"):
        write_durably(page, text)
        write_durably(folder / "summary.json", json.dumps(found.summary, indent=1))
        if arms := find_arms(sweep.jobs):
            write_rows(folder / "predictions.parquet", _list_predictions(folder, arms))
    return page


def _list_predictions(folder: Path, arms: Sequence[Arm]) -> Iterator[dict[str, object]]:
    """The rows that `--predictions` takes: each job's replies in the mode that counts for it."""
    key = budget_key(arms)
    for arm in arms:
        for job in arm.jobs:
            for row in _read_rows(folder / job.folder / "predictions.parquet", *_OF_A_REPLY):
                if (row["model"], row["mode"]) == (job.model, job.mode):
                    yield {
                        "question_id": row["question_id"],
                        "arm": arm.name,
                        "seed": job.seed,
                        "correct": row["correct"],
                        "teacher_tokens": count_of_cost(job, key),
                        "test_tokens": row["generated_tokens"],
                    }


def read_advice(folder: Path) -> str:
    """How the budget should be spent, as the summary that was written says it."""
    summary: SweepSummary = _read_json(folder / "summary.json")
    return summary["allocation"]["sentence"]


def read_head(folder: Path) -> str:
    """What the sweep asks, and of which models and data, as its page's head says it."""
    summary: SweepSummary = _read_json(folder / "summary.json")
    origin = summary["origin"]
    tested = " or ".join(f"{count:,}" for count in origin["test_questions"])
    parts = [", ".join(origin["models"]), ", ".join(origin["datasets"])]
    parts += [f"{tested} test questions"] if tested else []
    return f"{summary['question'] or summary['name']} ({'; '.join(filter(None, parts))})"


def read_sweep(folder: Path) -> Sweep:
    """The jobs of `folder`: those of its job table, or else the folders one level below."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the folder of a sweep")
    table = _read_json(folder / "jobs.json") or {"jobs": _list_folders(folder)}
    if not table["jobs"]:
        raise UserError(
            f"{folder} holds no job of a sweep; name a folder that {name_command()} -m has filled, "
            "one level above its jobs"
        )
    current = [entry for entry in table["jobs"] if not entry.get("superseded")]
    return Sweep(
        name=table.get("sweep") or folder.resolve().name,
        question=table.get("question", ""),
        jobs=[_read_job(folder / entry["folder"], entry) for entry in current],
        superseded=len(table["jobs"]) - len(current),
    )


def _list_folders(folder: Path) -> list[dict[str, object]]:
    """The entry that a job table would have, for a sweep without one."""
    jobs = [
        path
        for path in folder.iterdir()
        if path.is_dir()
        and any((path / name).exists() for name in _MARKS_OF_A_JOB)
        and (_read_json(path / "summary.json") or {}).get("kind") != "sweep"
    ]
    return [
        {"number": number, "folder": path.name, "state": "not finished"}
        for number, path in enumerate(sorted(jobs, key=_place_of))
    ]


def _place_of(folder: Path) -> tuple[int, str]:
    number = re.match(r"\d+", folder.name)
    return (int(number[0]) if number else 10**9, folder.name)


def _read_job(folder: Path, entry: dict[str, Any]) -> JobResult:
    changed = find_changed(folder)
    summary: Summary | None = None if changed else _read_json(folder / "summary.json")
    overrides = [*entry.get("overrides", []), *entry.get("shared", [])]
    if summary and "run" in summary:
        overrides = summary["run"]["overrides"]
    state = "not finished" if entry["state"] == "done" else entry["state"]
    job = JobResult(
        number=entry["number"],
        folder=entry["folder"],
        # The job table may be slightly out of date: a job with a summary is finished.
        state=FINISHED if summary else state,
        error=entry.get("error") or (f"{changed.name} is not what the run left" if changed else ""),
        overrides=tuple(overrides or _read_overrides(folder)),
        config=(_read_json(folder / ".hydra/frozen.json") or {}).get("config", {}),
        summary=summary,
        has_page=(folder / "report.html").is_file(),
    )
    if summary is None:
        return job
    asked = _read_rows(folder / "rationales.parquet", "question_id", "refusal")
    refusals = [row["refusal"] for row in asked]
    replies: dict[str, dict[str, dict[str, bool]]] = {"base": {}, "tuned": {}}
    columns = _OF_A_REPLY[:-1]
    for row in _read_rows(folder / "predictions.parquet", *columns):
        of_mode = replies[row["model"]].setdefault(row["mode"], {})
        of_mode[row["question_id"]] = row["correct"]
    further: dict[tuple[str, str, str], dict[str, bool]] = {}
    for row in _read_rows(folder / "forgetting.parquet", "dataset", *columns):
        of_set = further.setdefault((row["dataset"], row["mode"], row["model"]), {})
        of_set[row["question_id"]] = row["correct"]
    return replace(
        job, replies=replies[job.model], base_replies=replies["base"], further=further,
        asked=len(refusals), kept=refusals.count(""),
        taught=len({row["question_id"] for row in asked}),
    )  # fmt: skip


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _read_overrides(folder: Path) -> list[str]:
    """Hydra's record of a job's overrides: a YAML list, one override on each line."""
    record = folder / ".hydra" / "overrides.yaml"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return [line[2:].strip("'\"") for line in lines if line.startswith("- ")]


def _read_rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    return list(read_rows(path, columns)) if path.exists() else []

"""Reads a sweep's folder and writes its report. The only file here that uses the disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from caft.errors import UserError
from caft.program import name_command
from caft.report.check import check_part, check_summary
from caft.report.comparison import results_by_mode
from caft.report.headlines import UNDEFINED
from caft.report.schema import MODELS, AccuracyPart, ModelName
from caft.report.sweep.arms import Arm, budget_key, count_of_cost, find_arms
from caft.report.sweep.job_results import FINISHED, UNREADABLE, JobResult, Sweep
from caft.report.sweep.page import render_sweep
from caft.report.sweep.schema import SweepSummary
from caft.report.sweep.summary import analyse_sweep
from caft.report.wording import clip, count_of
from caft.store import disk_may_be_full, read_rows, write_durably, write_rows
from caft.sums import find_changed, is_finished, read_json, read_summary

_TABLE = "jobs.json"
_OF_A_REPLY = ("question_id", "model", "mode", "correct")
_LONGEST = 200  # characters of an error
_SWEEPS_NAMED = 3
_MARKS_OF_A_JOB = ("summary.json", "run.log", ".hydra")


class _Entry(TypedDict):
    """A job in jobs.json, as far as it is read here."""

    number: int
    folder: str
    state: str
    error: NotRequired[str | None]
    overrides: NotRequired[list[str]]
    shared: NotRequired[list[str]]
    superseded: NotRequired[bool]


class _Table(TypedDict):
    jobs: list[_Entry]
    sweep: NotRequired[str]
    question: NotRequired[str]


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
            path = folder / job.folder / "predictions.parquet"
            for row in _read_rows(path, *_OF_A_REPLY, "generated_tokens"):
                if (row["model"], row["mode"]) == (job.model, job.mode):
                    yield {
                        "question_id": row["question_id"],
                        "arm": arm.name,
                        "seed": job.seed,
                        "correct": row["correct"],
                        "teacher_tokens": count_of_cost(job, key),
                        "test_tokens": row["generated_tokens"],
                    }


def read_answers(folder: Path) -> list[str]:
    """What the sweep asks and has answered, as the summary that was written says it."""
    summary: SweepSummary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    found = [part for part in summary["answers"] if not part["answer"].startswith(UNDEFINED)]
    answers = [f"{part['asked']} {part['answer']}" for part in found if summary["arms"]]
    return [*read_progress(folder), *answers]


def read_progress(folder: Path) -> list[str]:
    """What is missing in the summary that was written; nothing where all jobs count."""
    summary: SweepSummary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    missing = [f"{n} {state}" for state, n in summary["counts"].items() if state != FINISHED]
    if not missing:
        return [] if summary["arms"] else ["No job has been evaluated."]
    done = summary["counts"].get(FINISHED, 0)
    # Separate runs share no command.
    onward = "; the same command goes on" if (folder / _TABLE).exists() else ""
    jobs = count_of(len(summary["jobs"]), "job")
    return [f"{done} of {jobs} are done ({', '.join(missing)}){onward}."]


def read_head(folder: Path) -> str:
    """What the sweep asks, and of which models and data, as its page's head says it."""
    summary: SweepSummary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    origin = summary["origin"]
    tested = " or ".join(f"{count:,}" for count in origin["test_questions"])
    parts = [", ".join(origin["models"]), ", ".join(origin["datasets"])]
    parts += [f"{tested} test questions"] if tested else []
    tail = "; ".join(filter(None, parts))
    return (summary["question"] or summary["name"]) + (f" ({tail})" if tail else "")


def read_sweep(folder: Path) -> Sweep:
    """The jobs of `folder`: those of its job table, or else the folders one level below."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the folder of a sweep")
    table = _read_table(folder)
    if not table["jobs"]:
        raise UserError(_explain_no_jobs(folder))
    current = [entry for entry in table["jobs"] if not entry.get("superseded")]
    return Sweep(
        name=table.get("sweep") or folder.resolve().name,
        question=table.get("question", ""),
        jobs=[_read_job(folder / entry["folder"], entry) for entry in current],
        superseded=len(table["jobs"]) - len(current),
    )


def _explain_no_jobs(folder: Path) -> str:
    """Why there is nothing to report on, and what to name: of a run its page, else its sweeps."""
    if any((folder / name).exists() for name in _MARKS_OF_A_JOB):
        page = folder / "report.html"
        there = f", and its page is there: {page}" if page.is_file() else ""
        return f"{folder} is one run{there}; caft report is for sweeps"
    tables = (table for depth in ("*", "*/*") for table in folder.glob(f"{depth}/jobs.json"))
    sweeps = sorted(table.parent for table in tables)
    below = f"; below it: {', '.join(map(str, sweeps[:_SWEEPS_NAMED]))}" if sweeps else ""
    return (
        f"{folder} holds no job of a sweep; name a folder that {name_command()} -m has filled, "
        f"one level above its jobs{below}"
    )


def _read_table(folder: Path) -> _Table:
    path = folder / _TABLE
    if not path.exists():
        return {"jobs": _list_folders(folder)}
    try:
        return check_part(read_json(path), _Table, _TABLE)
    except ValueError as error:
        raise UserError(
            f"{path} is no table of jobs ({_in_one_line(error)}); the sweep's command makes "
            "it anew from the jobs' folders, as does the report once it is removed"
        ) from error


def _list_folders(folder: Path) -> list[_Entry]:
    """The entry that a job table would have, for a sweep without one."""
    jobs = [
        path
        for path in folder.iterdir()
        if path.is_dir()
        and any((path / name).exists() for name in _MARKS_OF_A_JOB)
        and (read_summary(path) or {}).get("kind") != "sweep"
    ]
    return [
        {"number": number, "folder": path.name, "state": "not finished"}
        for number, path in enumerate(sorted(jobs, key=_place_of))
    ]


def _place_of(folder: Path) -> tuple[int, str]:
    number = re.match(r"\d+", folder.name)
    return (int(number[0]) if number else 10**9, folder.name)


def _read_job(folder: Path, entry: _Entry) -> JobResult:
    """A job as the table has it, and its numbers if it is finished and they can be read."""
    frozen = read_json(folder / ".hydra/frozen.json")
    given = [*entry.get("overrides", []), *entry.get("shared", [])]
    job = JobResult(
        number=entry["number"],
        folder=entry["folder"],
        # The job table may be slightly out of date.
        state="not finished" if entry["state"] == "done" else entry["state"],
        error=entry.get("error") or "",
        overrides=tuple(given or _read_overrides(folder)),
        config=frozen.get("config", {}) if isinstance(frozen, dict) else {},
        has_page=(folder / "report.html").is_file(),
    )
    if is_finished(folder):
        try:
            return _read_results(folder, job)
        except ValueError as error:
            return replace(job, state=UNREADABLE, error=_in_one_line(error))
    if not job.error and (changed := find_changed(folder)):
        return replace(job, error=f"{changed.name} is not what the run left")
    return job


def _read_results(folder: Path, job: JobResult) -> JobResult:
    """The finished job with its numbers. ValueError if they are damaged, or of another version."""
    summary = check_summary(read_summary(folder))
    job = replace(
        job, state=FINISHED, overrides=tuple(summary["run"]["overrides"]), summary=summary
    )
    asked = _read_rows(folder / "rationales.parquet", "question_id", "refusal")
    refusals = [row["refusal"] for row in asked]
    replies: dict[str, dict[str, dict[str, bool]]] = {model: {} for model in MODELS}
    for row in _read_rows(folder / "predictions.parquet", *_OF_A_REPLY):
        of_mode = replies.setdefault(row["model"], {}).setdefault(row["mode"], {})
        of_mode[row["question_id"]] = row["correct"]
    for model in MODELS:
        _refuse_missing(job.accuracy, model, replies[model])
    further: dict[tuple[str, str, str], dict[str, bool]] = {}
    for row in _read_rows(folder / "forgetting.parquet", "dataset", *_OF_A_REPLY):
        of_set = further.setdefault((row["dataset"], row["mode"], row["model"]), {})
        of_set[row["question_id"]] = row["correct"]
    return replace(
        job, replies=replies[job.model], base_replies=replies["base"], further=further,
        asked=len(refusals), kept=refusals.count(""),
        taught=len({row["question_id"] for row in asked}),
    )  # fmt: skip


def _refuse_missing(
    accuracy: AccuracyPart | None, model: ModelName, replies: Mapping[str, Mapping[str, bool]]
) -> None:
    for mode, result in results_by_mode(accuracy, model).items():
        if len(found := replies.get(mode, {})) != result["n"]:
            raise ValueError(
                f"predictions.parquet has {len(found)} of {count_of(result['n'], 'reply')} of the "
                f"{model} model in {mode} mode"
            )


def _in_one_line(error: ValueError) -> str:
    return clip(" ".join(str(error).split()), _LONGEST)


def _read_overrides(folder: Path) -> list[str]:
    """Hydra's record of a job's overrides: a YAML list, one override on each line."""
    record = folder / ".hydra" / "overrides.yaml"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return [line[2:].strip("'\"") for line in lines if line.startswith("- ")]


def _read_rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    """The rows' columns; no row if there is no file. ValueError if it is damaged."""
    try:
        return read_rows(path, columns) if path.exists() else []
    except Exception as error:  # any exception of a class that is not ours
        raise ValueError(f"{path.name} cannot be read: {error}") from error

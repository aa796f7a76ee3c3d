"""A sweep's folder: read its jobs, write its report. The only file here that touches disk."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caft.errors import UserError
from caft.report.sweep.job_results import FINISHED, JobResult, Sweep, examined_model
from caft.store import disk_may_be_full

_MARKS_OF_A_JOB = ("summary.json", "run.log", ".hydra")


def write_sweep_report(folder: Path) -> Path:
    """Write report.html and summary.json of the sweep in `folder`; returns the page's path.

    May be called at any time, also while jobs are running. UserError where there is no job,
    and where the disk is full.
    """
    from caft.report.schema import check_part
    from caft.report.sweep.page import render_sweep
    from caft.report.sweep.schema import SweepSummary
    from caft.report.sweep.summary import examine_sweep, summarise_sweep

    found = examine_sweep(read_sweep(folder))
    written = datetime.now(UTC).isoformat(timespec="seconds")
    summary = summarise_sweep(found, written)
    check_part(summary, SweepSummary, "summary")
    page = folder / "report.html"
    text = render_sweep(found, summary)
    with disk_may_be_full(folder, "make room there and write the report again"):
        _write(page, text)
        _write(folder / "summary.json", json.dumps(summary, indent=1))
    return page


def _write(path: Path, text: str) -> None:
    # Renamed into place: somebody may be reading the last version while jobs still run.
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def read_sweep(folder: Path) -> Sweep:
    """The jobs of `folder`: those of its ledger jobs.json, or else the folders one level below."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the folder of a sweep")
    ledger = _read_json(folder / "jobs.json") or {"jobs": _list_folders(folder)}
    if not ledger["jobs"]:
        raise UserError(
            f"{folder} holds no job of a sweep; name a folder that python train.py -m has filled, "
            "one level above its jobs"
        )
    current = [entry for entry in ledger["jobs"] if not entry.get("superseded")]
    return Sweep(
        name=ledger.get("sweep") or folder.resolve().name,
        question=ledger.get("question", ""),
        jobs=[_read_job(folder, entry) for entry in current],
        superseded=len(ledger["jobs"]) - len(current),
    )


def _list_folders(folder: Path) -> list[dict[str, Any]]:
    """What a ledger would say, for a sweep that has none."""
    jobs = [path for path in folder.iterdir() if path.is_dir() and _is_job(path)]
    return [
        {"number": number, "folder": path.name, "state": "not finished"}
        for number, path in enumerate(sorted(jobs, key=_place_of))
    ]


def _is_job(folder: Path) -> bool:
    return any((folder / name).exists() for name in _MARKS_OF_A_JOB)


def _place_of(folder: Path) -> tuple[int, str]:
    number = re.match(r"\d+", folder.name)
    return (int(number[0]) if number else 10**9, folder.name)


def _read_job(sweep: Path, entry: Mapping[str, Any]) -> JobResult:
    folder = sweep / entry["folder"]
    summary = _read_json(folder / "summary.json")
    words = entry.get("overrides")
    if words is None:
        words = summary["run"]["overrides"] if summary else _read_words(folder)
    job = JobResult(
        number=entry["number"],
        folder=entry["folder"],
        # The ledger may be a moment behind: a summary is what makes a job finished.
        state=FINISHED if summary else _state_without_summary(entry["state"]),
        error=entry.get("error") or "",
        words=tuple(words),
        has_page=(folder / "report.html").is_file(),
    )
    if summary is None:
        return job
    asked, kept = _count_rationales(folder)
    replies = _read_replies(folder, summary)
    return replace(job, summary=summary, replies=replies, asked=asked, kept=kept)


def _state_without_summary(state: str) -> str:
    return "not finished" if state == "done" else str(state)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return loaded


def _read_words(folder: Path) -> tuple[str, ...]:
    """Hydra's record of a job's overrides: a YAML list of one word a line."""
    record = folder / ".hydra" / "overrides.yaml"
    if not record.exists():
        return ()
    lines = record.read_text(encoding="utf-8").splitlines()
    return tuple(line[2:].strip("'\"") for line in lines if line.startswith("- "))


def _read_replies(folder: Path, summary: dict[str, Any]) -> dict[str, dict[str, bool]]:
    from caft.store import read_rows

    path, (who, _) = folder / "predictions.parquet", examined_model(summary)
    if not path.exists():
        return {}
    replies: dict[str, dict[str, bool]] = {}
    for row in read_rows(path, ("question_id", "model", "mode", "correct")):
        if row["model"] == who:
            replies.setdefault(row["mode"], {})[row["question_id"]] = row["correct"]
    return replies


def _count_rationales(folder: Path) -> tuple[int, int]:
    """How many rationales were asked for, and how many of them may be trained on."""
    from caft.store import read_rows

    path = folder / "rationales.parquet"
    if not path.exists():
        return 0, 0
    refusals = [row["refusal"] for row in read_rows(path, ("refusal",))]
    return len(refusals), refusals.count("")

"""A sweep's folder with damaged files: one line, or a job that is in no number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from caft.report.__main__ import main
from caft.report.sweep import read_sweep
from caft.report.sweep.job_results import FINISHED, UNREADABLE, Sweep
from caft.store import read_rows, write_rows

TABLES = (
    b"[1]",
    b'{"sweep": "x"}',
    b'{"jobs": [1]}',
    b'{"jobs": [{"folder": 1, "number": 0, "state": "done"}]}',
    b'{"jobs": [], "sweep": "\xff"}',
    b"{",
)


def test_a_damaged_job_table_is_one_line(
    sweep_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for table in TABLES:
        (sweep_folder / "jobs.json").write_bytes(table)
        assert main([str(sweep_folder)]) == 2, table
        out, err = capsys.readouterr()
        assert not out
        assert err.count("\n") == 1
        assert "is no table of jobs" in err, table
        assert "makes it anew" in err
    (sweep_folder / "jobs.json").unlink()
    assert main([str(sweep_folder)]) == 0


def lose_a_reply(job: Path) -> None:
    rows = read_rows(job / "predictions.parquet")
    lost = next(row for row in rows if row["model"] == "tuned")
    write_rows(job / "predictions.parquet", [row for row in rows if row != lost])


def lose_a_column(job: Path) -> None:
    rows = read_rows(job / "predictions.parquet")
    write_rows(job / "predictions.parquet", [{"question_id": row["question_id"]} for row in rows])


DAMAGE: dict[int, tuple[Callable[[Path], object], str]] = {
    1: (
        lambda job: (job / "summary.json").write_text('{"schema": 0}'),
        "summary.schema is 0",
    ),
    2: (
        lambda job: (job / "predictions.parquet").write_bytes(b"PAR1"),
        "predictions.parquet cannot be read: ",
    ),
    4: (
        lambda job: (job / "rationales.parquet").write_bytes(b""),
        "rationales.parquet cannot be read: ",
    ),
    7: (
        lambda job: (job / "predictions.parquet").unlink(),
        "predictions.parquet has 0 of 300 replies of the base model in answer mode",
    ),
    8: (
        lose_a_reply,
        "predictions.parquet has 299 of 300 replies of the tuned model in rationale mode",
    ),
    10: (lose_a_column, "predictions.parquet cannot be read: "),
}
"""By the job's number."""


def test_a_job_that_cannot_be_read_is_in_no_number_and_said_so(
    sweep_folder: Path, finished_sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [finished_sweep.jobs[number].folder for number in DAMAGE]
    for folder, (spoil, _) in zip(folders, DAMAGE.values(), strict=True):
        spoil(sweep_folder / folder)
    assert main([str(sweep_folder)]) == 0
    lines = capsys.readouterr().err.splitlines()
    summary = json.loads((sweep_folder / "summary.json").read_text())
    listed = [each for each in summary["jobs"] if each["state"] == UNREADABLE]
    told = zip(folders, DAMAGE.values(), lines, listed, strict=True)
    for folder, (_, message), line, job in told:
        assert f"{folder} is in no number: {message}" in line
        assert (job["folder"], job["arm"]) == (folder, None)
        assert job["error"].startswith(message)
    assert {arm["name"]: arm["seeds"] for arm in summary["arms"]} == {
        "sft, entropy": [1],
        "distill, entropy": [1, 3],
        "complexity_aware, entropy": [1],
        "complexity_aware, random": [1, 3],
    }


def test_of_jobs_that_cannot_be_read_the_next_step_is_to_move_them_away(
    sweep_folder: Path, finished_sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sweep's command takes them for finished, so that alone it would run nothing, for ever."""
    for job in finished_sweep.jobs:
        (sweep_folder / job.folder / "summary.json").write_text('{"schema": 0}')
    assert main([str(sweep_folder)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    page = (sweep_folder / "report.html").read_text(encoding="utf-8")
    first, *_ = read_sweep(sweep_folder).jobs
    for text in (said, page):
        assert f"Move away what cannot be read ({first.folder}, " in text
        assert " and 9 more) and give its command again." in text


@pytest.mark.parametrize("text", ["[1]", "{", ""])
def test_a_job_that_is_not_finished_by_the_sweeps_own_rule_is_in_no_number(
    sweep_folder: Path, finished_sweep: Sweep, text: str
) -> None:
    """Its summary is none, or its run ended behind the summary, as when a page fails."""
    first, second = (sweep_folder / job.folder for job in finished_sweep.jobs[:2])
    (first / "summary.json").write_text(text)
    (second / ".hydra").mkdir()
    (second / ".hydra" / "unfinished").touch()
    states = {job.folder: job.state for job in read_sweep(sweep_folder).jobs}
    assert (states.pop(first.name), states.pop(second.name)) == ("not finished",) * 2
    assert list(states.values()).count(FINISHED) == 10

"""A finished run's tuning stages, made again from its folder: its config, classes and rationales.

No model is loaded: the tokens of the rows need its tokenizer only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caft.dials import shown
from caft.errors import UserError, count_of
from caft.export.rows import Row, list_rows
from caft.hydra_bridge import read_run_config
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.pipeline.preflight import load_graded
from caft.pipeline.rescoring import split_rescored
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import stage_tuning
from caft.pipeline.steps import list_phases, reaches
from caft.pipeline.workspace import Workspace
from caft.records import Rationale
from caft.report.check import check_summary
from caft.run_config import RunConfig, RunContext, Until
from caft.score.stage import ScoreInputs
from caft.split import SplitResult
from caft.store import StageKind, Store, read_rows, read_table
from caft.sums import find_changed, is_finished, read_summary
from caft.sweeps.run_folders import digest_config
from caft.tune.stage import encode_rows

_TEXTS = ("rationales.parquet", "own_rationales.parquet")


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended, and what its stages train.

    `run_id` is the digest of its config, the same whenever the same run is started again.
    """

    folder: Path
    config: RunConfig
    summary: Mapping[str, Any] = field(repr=False)
    student: Student
    stages: Sequence[Sequence[Row]] = field(repr=False)

    @property
    def run_id(self) -> str:
        """20 hexadecimal digits."""
        return digest_config(self.config)

    @property
    def commit(self) -> str:
        """The commit of CAFT that made the run; empty where it was installed from a wheel."""
        return self.summary["run"]["git_commit"] or ""


def open_run(folder: Path) -> FinishedRun:
    """The run in `folder`; UserError if it is none, not finished, or not what it was any more."""
    summary = _read_finished(folder)
    config = read_run_config(folder)
    _refuse_without_rows(folder, config)
    questions = load_graded(config.dataset)
    if questions.fingerprint != summary["dataset"]["fingerprint"]:
        raise UserError(
            f"the questions of dataset={config.dataset.name}, or who grades them, are others than "
            f"those of the run in {folder}; put the run's file back, or run the same command again "
            "and export that run"
        )
    store = Store(config.store.folder, reads_only=True)
    workspace = Workspace(config, RunContext(folder=folder), questions, store)
    student = Student(config.model, locate_model(config.model), "cpu")
    return FinishedRun(folder, config, summary, student, _list_stages(workspace, student, summary))


def _read_finished(folder: Path) -> Mapping[str, Any]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder of a finished run")
    summary = read_summary(folder)
    if (summary or {}).get("kind") == "sweep" or (folder / "jobs.json").exists():
        raise UserError(f"{folder} is a sweep; give the folder of one of its jobs, which is in it")
    if summary is None and not (folder / ".hydra").is_dir():
        raise UserError(f"{folder} is not the folder of a run; give one that a run has written")
    if changed := find_changed(folder):
        raise UserError(
            f"{changed} is not what the run left there; run the run's command again in another "
            "folder, and export that run"
        )
    if summary is None or not is_finished(folder):
        raise UserError(
            f"the run in {folder} is not finished; run its command again, which continues it"
        )
    try:
        check_summary(summary)
    except ValueError as error:
        raise UserError(
            f"{folder / 'summary.json'} is of another version of CAFT, or was changed "
            f"({shown(error)}); run the run's command again in another folder, and export that run"
        ) from error
    return summary


def _refuse_without_rows(folder: Path, config: RunConfig) -> None:
    if not config.method.stages:
        raise UserError(f"the run in {folder} has method={config.method.name}, which trains no row")
    if not reaches(config, Until.distill):
        raise UserError(
            f"the run in {folder} ended at until={config.until.name}, before its rows were chosen; "
            "run its command again with until=distill, which tunes nothing, or without until"
        )


def _list_stages(
    workspace: Workspace, student: Student, summary: Mapping[str, Any]
) -> list[list[Row]]:
    folder = workspace.context.folder
    texts = [row for name in _TEXTS for row in _read_texts(folder / name)]
    split = SplitResult(complexity_of=_read_classes(folder), thresholds=())
    stages = []
    for phase in list_phases(workspace.config.method):
        if phase.start:
            split = _read_rescored(workspace, summary, phase.start)
        taught = Taught(split=split, rationales=texts)
        for number in phase:
            tuning = stage_tuning(workspace, taught, student, number)
            rows = list_rows(tuning, encode_rows(tuning), texts)
            trained = summary["method"]["stages"][number]
            # Patience may have ended a stage before all that it could draw were drawn.
            _refuse_other_rows(rows, folder, None if trained["draw"] else trained["examples"])
            stages.append(rows)
    return stages


def _read_texts(path: Path) -> list[Rationale]:
    return read_table(path, Rationale) if path.is_file() else []


def _read_classes(folder: Path) -> dict[str, str]:
    path = folder / "scores.parquet"
    if not path.is_file():
        raise UserError(
            f"{path} is gone, which has the classes of the questions; run the run's command again "
            "in another folder, and export that run"
        )
    rows = read_rows(path, ["question_id", "complexity"])
    return {row["question_id"]: row["complexity"] for row in rows}


def _read_rescored(workspace: Workspace, summary: Mapping[str, Any], number: int) -> SplitResult:
    """The classes by the student as tuned before stage `number`; only the store has its scores."""
    name = f"rescore {number + 1}"
    made = [each["fingerprint"] for each in summary["stages"] if each["name"] == name]
    found = workspace.store.find_made(StageKind.score, made[0]) if made else None
    if found is None:
        raise UserError(
            f"the classes of stage {number + 1} are those of the tuned student, and "
            f"{workspace.store.path} has its scores no more (pruned, or stopped before); run the "
            "run's command again in another folder, and export that run"
        )
    return split_rescored(workspace, ScoreInputs.read(found.folder), number)


def _refuse_other_rows(rows: Sequence[Row], folder: Path, trained: int | None) -> None:
    """UserError if the run trained another number of rows; None: it did not get there."""
    if trained is not None and trained != len(rows):
        raise UserError(
            f"the run in {folder} trained {count_of(trained, 'row')} where its files now "
            f"make {len(rows):,}; run its command again in another folder, and export that run"
        )

"""A finished run, read back from its folder: for notebooks and later questions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caft.errors import UserError
from caft.records import AnswerScore, Mode, Prediction, Question, Unread
from caft.report.schema import Summary
from caft.report.tables import ReportTables
from caft.store import read_rows

_NO_ESTIMATES = (
    *("question_id", "split", "complexity", "subject", "predicted", "valid", "correct"),
    "option_probabilities",
)
_REPLY = ("question_id", "text", "parsed", "correct", "generated_tokens")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """summary.json and its rows.

    Of the questions only ids and subjects are known; of those with replies texts and gold, too.
    """

    summary: Summary
    tables: ReportTables

    @property
    def estimator(self) -> str:
        """The estimate that its split uses."""
        assert self.summary["score"] is not None
        return self.summary["score"]["estimator"]


def read_run(folder: Path) -> FinishedRun:
    """UserError if `folder` holds no finished run with scores."""
    if not (folder / "summary.json").exists() or not (folder / "scores.parquet").exists():
        raise UserError(
            f"{folder} holds no finished run with scores; name a folder with summary.json and "
            "scores.parquet"
        )
    scored = read_rows(folder / "scores.parquet")
    replies = folder / "predictions.parquet"
    predictions: dict[tuple[str, Mode], list[Prediction]] = defaultdict(list)
    answered = read_rows(replies) if replies.exists() else []
    for row in answered:
        known = {name: row[name] for name in _REPLY}
        # Runs of earlier versions have no such columns.
        prediction = Prediction(
            **known,
            thinking_tokens=row.get("thinking_tokens", 0),
            obeyed=row.get("obeyed"),
            unread=Unread[row["unread"]] if row.get("unread") else None,
            marked=row.get("marked"),
        )
        predictions[row["model"], Mode[row["mode"]]].append(prediction)
    asked = {row["question_id"]: row for row in answered}
    tables = ReportTables(
        questions={
            row["question_id"]: _read_question(row, asked.get(row["question_id"], {}))
            for row in scored
        },
        split_of={row["question_id"]: row["split"] for row in scored},
        scores=[_read_score(row) for row in scored],
        complexity_of={row["question_id"]: row["complexity"] for row in scored},
        predictions=predictions,
    )
    return FinishedRun(json.loads((folder / "summary.json").read_text(encoding="utf-8")), tables)


def _read_question(scored: Mapping[str, Any], asked: Mapping[str, Any]) -> Question:
    """Gold is the reply that is right; its place among the options is not known."""
    return Question(
        id=scored["question_id"],
        subject=scored["subject"],
        # Runs of earlier versions have no such columns.
        text=asked.get("question", ""),
        options=tuple(asked.get("options") or ()),
        gold_text=asked.get("gold", ""),
    )


def _read_score(row: Mapping[str, Any]) -> AnswerScore:
    return AnswerScore(
        question_id=row["question_id"],
        predicted=row["predicted"],
        valid=row["valid"],
        correct=row["correct"],
        estimates={name: value for name, value in row.items() if name not in _NO_ESTIMATES},
        # Runs of earlier versions have no such column.
        option_probabilities=tuple(row.get("option_probabilities") or ()),
    )

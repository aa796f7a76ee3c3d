"""benchmarks/scale.py runs, and what a run leaves stays small where its questions are many."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caft.records import COMPLEXITIES, AnswerScore, Mode, Question
from caft.report.run.html import render_report
from caft.report.tables import ReportTables

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import scale

SIZE = 200


def test_every_stage_of_the_smallest_size_has_all_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAFT_CACHE", str(tmp_path / "cache"))
    scale.write_file(tmp_path / "questions.jsonl", SIZE)
    found: dict[str, Any] = scale.run_size(tmp_path, SIZE, ["report.questions=20"])
    assert list(found["seconds"]) == ["read", "score", "split", "distill", "report", "ledger"]
    counts = {
        path.stem: pq.read_metadata(path).num_rows for path in (tmp_path / "run").glob("*.parquet")
    }
    # A tenth is for validation and a tenth for test, where two models reply in two modes.
    assert counts == {"scores": SIZE, "rationales": SIZE * 8 // 10, "predictions": SIZE // 10 * 4}
    assert 0 < found["page_mb"] < 3


@pytest.mark.slow
def test_the_page_of_twenty_thousand_questions_opens() -> None:
    drawn, keys = random.Random(1), [f"q{number}" for number in range(20_000)]
    questions = {key: make_question(key, drawn) for key in keys}
    tables = ReportTables(
        questions=questions,
        split_of=dict.fromkeys(keys, "test"),
        complexity_of={key: drawn.choice(COMPLEXITIES) for key in keys},
        scores=[
            AnswerScore(question_id=key, predicted="A", valid=True, correct=False,
                        estimates={"answer_entropy": drawn.random()})
            for key in keys
        ],
        predictions={
            (model, mode): [scale.draw_reply(each, mode, 0.5, drawn) for each in questions.values()]
            for model in ("base", "tuned") for mode in (Mode.answer, Mode.rationale)
        },
    )  # fmt: skip
    page = render_report(summary_of(len(keys)), tables, "", "large")
    assert len(page.encode()) < 3_000_000
    assert "of 20,000" in page


def make_question(key: str, drawn: random.Random) -> Question:
    row: dict[str, Any] = scale.make_row(int(key[1:]), drawn)
    # Words that no compression makes small.
    noise = f"{drawn.getrandbits(1200):x}"
    return Question(
        id=key, text=row["question"] + noise, options=tuple(row["options"]), rationale=noise,
        gold_index=row["options"].index(row["answer"]), subject=row["subject"],
    )  # fmt: skip


def summary_of(count: int) -> Any:
    return {
        "run": {"name": "large", "seed": 1, "overrides": [], "git_commit": None, "started": "",
                "finished": "", "versions": {}, "device": "cpu"},
        "model": {"id": "none", "revision": None, "parameters": None,
                  "trainable_parameters": None},
        "dataset": {"name": "large", "fingerprint": "",
                    "counts": {"train": 0, "validation": 0, "test": count}},
        "method": {"name": "base", "stages": []},
    }  # fmt: skip

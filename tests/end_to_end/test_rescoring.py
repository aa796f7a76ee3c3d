"""A run whose second stage has its classes from the student that the first one tuned."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from caft.records import AnswerScore
from caft.store import read_table

FIRST = "{targets:{easy:answer,middle:answer},epochs:2}"
SECOND = "{targets:{easy:answer,hard:rationale},epochs:1,rescore:true}"


@pytest.mark.slow
def test_the_second_stage_trains_the_classes_of_the_tuned_student(
    workshop: Any, small: Any
) -> None:
    # A high rate, so that the first stage moves the entropies.
    words = (*small.words, "tuning.learning_rate=0.02")
    alone = workshop.run(*words, f"method.stages=[{FIRST}]")
    run = workshop.run(*words, f"method.stages=[{FIRST},{SECOND}]")
    assert run.stages == [
        "score", "tune 1", "rescore 2", "distill 2", "tune 2",
        "evaluate base rationale", "evaluate tuned answer", "evaluate tuned rationale",
    ]  # fmt: skip
    assert run.fingerprint("tune 1") == alone.fingerprint("tune 1")

    def entropies(run: Any, stage: str, kind: str) -> dict[str, float]:
        folder = workshop.store / kind / run.fingerprint(stage)
        rows = read_table(folder / "scores.parquet", AnswerScore)
        return {row.question_id: row.estimates["answer_entropy"] or 0.0 for row in rows}

    # What evaluation measured of the student after the first stage, on the same questions.
    evaluated = entropies(alone, "evaluate tuned answer", "evaluate")
    rescored, base = entropies(run, "rescore 2", "score"), entropies(run, "score", "score")
    both = sorted(evaluated.keys() & rescored.keys())
    assert len(both) == 8
    # Packed with other questions, sums round otherwise, in the last digits of float32.
    assert [rescored[name] for name in both] == pytest.approx(
        [evaluated[name] for name in both], rel=1e-4
    )
    assert max(abs(rescored[name] - base[name]) for name in both) > 0.1

    train = [row["question_id"] for row in run.rows("scores") if row["split"] == "train"]
    cut = np.quantile([rescored[name] for name in train], 0.75)
    hard = {name for name in train if rescored[name] >= cut}
    assert {row["question_id"] for row in run.rows("rationales")} == hard
    rescoring = run.summary["method"]["stages"][1]["rescored"]
    assert rescoring["counts"] == {"easy": 10, "middle": 20, "hard": 10}
    first = {row["question_id"] for row in run.rows("scores") if row["complexity"] == "hard"}
    assert rescoring["moved"] >= 2 * len(hard - first) > 0
    # The bill: one pass over training and validation questions.
    (cost,) = (row for row in run.summary["stages"] if row["name"] == "rescore 2")
    assert cost["kind"] == "score"
    assert cost["tokens_read"] > len(rescored) == 48

    page = (run.folder / "report.html").read_text(encoding="utf-8")
    row = page.partition(">rescore 2</th>")[2].partition("</tr>")[0]
    assert f">{cost['tokens_read']:,} read<" in row
    assert "rationale, classes made anew" in page
    again = workshop.run(*words, f"method.stages=[{FIRST},{SECOND}]")
    assert set(again.cached) == set(again.stages)


@pytest.mark.slow
def test_every_epoch_has_the_classes_of_the_epoch_before(workshop: Any, small: Any) -> None:
    """One stage of two epochs: a schedule over both, a bill of both, and nothing done twice."""
    stage = "{targets:{easy:answer,hard:rationale},epochs:2,rescore:epoch}"
    words = (*small.words, "tuning.learning_rate=0.02", "tuning.schedule=linear")
    words = (*words, "tuning.validate=false", f"method.stages=[{stage}]")
    run = workshop.run(*words)
    assert run.stages[:6] == ["score", "distill", "tune 1", "rescore 2", "distill 2", "tune 2"]
    first, second = run.summary["method"]["stages"]
    assert "rescored" not in first
    assert second["rescored"]["moved"] > 0
    assert second["rescored"]["dial"] == "method.stages.0.rescore=epoch"
    curves = [
        json.loads((workshop.store / "tune" / run.fingerprint(name) / "tuning.json").read_text())
        for name in ("tune 1", "tune 2")
    ]
    rates = [row["learning_rate"] for part in curves for row in part["curve"]]
    # Both epochs have as many steps: one line from the full rate towards 0.
    assert rates == pytest.approx([0.02 * (1 - k / len(rates)) for k in range(len(rates))])
    again = workshop.run(*words)
    assert set(again.cached) == set(again.stages)

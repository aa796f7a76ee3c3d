"""Published entropies as scores: no model is needed to see what they are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data"
LOCAL = ("dataset=local", "dataset.answer_form=letter", "score=published")


def write_scored(path: Path, correct: list[bool]) -> Path:
    """Rows whose entropy rises with their number."""
    rows = [
        {
            "question": f"How many corners has shape number {number}?",
            "options": ["three", "four"],
            "answer": "AB"[number % 2],
            "published_entropy_nats": 0.1 * number,
            "published_correct": truth,
        }
        for number, truth in enumerate(correct)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_entropies_that_order_mistakes_perfectly_have_an_area_of_one(
    workshop: Any, tmp_path: Path
) -> None:
    file = write_scored(tmp_path / "scored.jsonl", [True] * 20 + [False] * 20)
    run = workshop.run(*LOCAL, f"dataset.train_path={file}", "until=split", "model=phi3")
    assert (run.status, run.err) == (0, "")
    area = run.summary["score"]["roc_auc"]["answer_entropy"]
    assert (area["value"], area["n"]) == (1.0, 32)
    assert run.summary["model"]["parameters"] is None
    assert run.summary["stages"] == []
    assert sum(run.summary["split"]["counts"].values()) == 32


@pytest.mark.parametrize(("truth", "mistakes"), [(True, 0), (False, 32)])
def test_a_base_model_of_one_kind_has_no_auc_and_the_run_goes_on(
    workshop: Any, small: Any, tmp_path: Path, truth: bool, mistakes: int
) -> None:
    file = write_scored(tmp_path / "scored.jsonl", [truth] * 40)
    words = (*small.tiny, *LOCAL, f"dataset.train_path={file}", "method=sft", small.one_stage)
    run = workshop.run(*words, "evaluation.modes=[answer]", "trainer.progress=false")
    assert run.status == 0, run.err
    area = run.summary["score"]["roc_auc"]["answer_entropy"]
    assert (area["value"], area["incorrect"], area["n"]) == (None, mistakes, 32)
    reason = "none of the 32 rows is wrong" if truth else "all 32 rows are wrong"
    assert reason in area["reason"]
    assert reason[1:] in (run.folder / "report.html").read_text(encoding="utf-8")
    assert run.summary["accuracy"]["base"]["answer"]["value"] == float(truth)
    assert run.stages == ["tune 1", "evaluate tuned answer"]


def test_published_scores_need_their_own_file(workshop: Any, tmp_path: Path) -> None:
    # Before the model is even looked for.
    run = workshop.run("score=published", "until=score", f"model.path={tmp_path / 'nowhere'}")
    assert run.status == 2
    assert run.err.count("\n") == 1
    assert "set dataset=local" in run.err


@pytest.fixture
def rows() -> tuple[Path, Path]:
    files = tuple(PUBLISHED / f"mmlu_pro_qwen_{name}.jsonl" for name in ("train", "test"))
    if not all(file.exists() for file in files):
        pytest.skip("the published rows in ../shared/data are absent")
    return files


def test_the_published_rows_have_their_published_area(
    workshop: Any, tmp_path: Path, rows: tuple[Path, Path]
) -> None:
    # Held-out rows from elsewhere, so that every row of the file is scored as a training row.
    elsewhere = rows[0].read_text(encoding="utf-8").splitlines()
    for name, line in (("validation", elsewhere[1000]), ("test", elsewhere[2000])):
        (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding="utf-8")
    run = workshop.run(
        "dataset=local",
        "experiment=mmlu_pro_local",
        "dataset.train=null",
        "dataset.validation=1",
        "dataset.test=1",
        "score=published",
        f"dataset.train_path={rows[1]}",
        f"dataset.validation_path={tmp_path / 'validation.jsonl'}",
        f"dataset.test_path={tmp_path / 'test.jsonl'}",
        "until=score",
    )
    assert (run.status, run.err) == (0, "")
    area = run.summary["score"]["roc_auc"]["answer_entropy"]
    # 0.7105 is over all 1,167 rows, see tests/data/test_real_rows.py; one of them is a repeat.
    assert area["n"] == 1166
    assert area["value"] == pytest.approx(0.71046, abs=5e-6)

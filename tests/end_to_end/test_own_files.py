"""A user's own files: options in columns, free text, chat templates, other targets, full tuning."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.__main__ import main

COLOURS = ("red", "blue", "green", "white")


def write_csv(path: Path, count: int, first: int = 0) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "A", "B", "C", "D", "answer", "subject"])
        for number in range(first, first + count):
            answer = "ABCD"[number % 4]
            words = f"Which colour has flag {number}, if it is {COLOURS[number % 4]}?"
            writer.writerow([words, *COLOURS, answer, ("land", "sea")[number % 2]])
    return path


@pytest.fixture
def chat_words(small: Any, tmp_path: Path) -> tuple[str, ...]:
    return (
        *small.tiny,
        "model.architecture=qwen2",
        "dataset=local",
        f"dataset.train_path={write_csv(tmp_path / 'flags.csv', 40)}",
        "dataset.columns.options='A,B,C,D'",
        "dataset.columns.subject=subject",
        "dataset.max_new_tokens=6",
        "method=sft",
        small.one_stage,
    )


def test_letters_in_a_csv_run_through_the_chat_template(
    workshop: Any, chat_words: tuple[str, ...]
) -> None:
    run = workshop.run(*chat_words)
    assert run.status == 0, run.err
    assert run.summary["dataset"]["counts"] == {"train": 32, "validation": 4, "test": 4}
    tuned = run.summary["accuracy"]["tuned"]["answer"]
    assert set(tuned["by_subject"]) <= {"land", "sea"}
    assert sum(share["n"] for share in tuned["by_subject"].values()) == 4
    mass = run.summary["score"]["option_mass"]
    assert 0 < mass < 1
    assert run.summary["cost"]["teacher_calls"] == 0


def test_test_rows_move_no_cut_point(workshop: Any, chat_words: tuple[str, ...]) -> None:
    cuts = []
    for first in (1000, 2000):
        file = write_csv(workshop.folder / f"test{first}.csv", 10, first)
        run = workshop.run(*chat_words, f"dataset.test_path={file}", "until=split")
        assert run.status == 0, run.err
        cuts.append(run.summary["split"]["thresholds"])
    assert cuts[0] == pytest.approx(cuts[1], rel=1e-5)


def test_the_papers_bracketed_answers_are_generated_and_read(
    workshop: Any, chat_words: tuple[str, ...]
) -> None:
    run = workshop.run(
        *chat_words,
        "tuning.answer_target=bracketed",
        "method.stages.0.epochs=12",
        "tuning.learning_rate=1e-2",
        "evaluation.modes=[answer]",
    )
    assert run.status == 0, run.err
    tuned = [row for row in run.rows("predictions") if row["model"] == "tuned"]
    assert len(tuned) == 4
    # After a dozen epochs the form is there, whatever the answer.
    assert all(row["text"].startswith("[[") for row in tuned)
    assert all(row["parsed"] in list("ABCD") for row in tuned)
    assert all(row["generated_tokens"] > 1 for row in tuned)


def test_full_tuning_leaves_a_model_that_loads_by_itself(
    workshop: Any, chat_words: tuple[str, ...]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = workshop.run(*chat_words, "tuning=full", "evaluation.modes=[answer]")
    assert run.status == 0, run.err
    model = run.summary["model"]
    assert model["trainable_parameters"] == model["parameters"]
    tuned = AutoModelForCausalLM.from_pretrained(run.folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "adapter")
    assert sum(weight.numel() for weight in tuned.parameters()) == model["parameters"]
    with torch.no_grad():
        logits = tuned(**tokenizer("Which colour?", return_tensors="pt")).logits
    assert torch.isfinite(logits).all()
    card = (run.folder / "adapter" / "README.md").read_text()
    assert "library_name: transformers\n" in card
    assert "tags: [caft, full]\n" in card


def test_free_text_answers_run_through(workshop: Any, small: Any, tmp_path: Path) -> None:
    file = tmp_path / "free.jsonl"
    rows = [
        {"q": f"What follows {number}?", "a": str(number + 1), "how": f"{number} and one more."}
        for number in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = workshop.run(
        *small.tiny,
        "dataset=text",
        f"dataset.train_path={file}",
        "dataset.columns={question:q,options:null,answer:a,rationale:how}",
        "dataset.max_new_tokens=8",
        "score.free_answer_tokens=4",
        small.two_stages,
    )
    assert run.status == 0, run.err
    score = run.summary["score"]
    assert score["option_mass"] is None
    for name in ("option_entropy", "option_mass"):
        assert score["roc_auc"].get(name, {"value": None})["value"] is None
    assert run.summary["method"]["stages"][1]["examples"] == 8
    assert run.rows("rationales")[0]["text"].endswith("]]")
    # Whole numbers: math-verify decides, and has nothing to add to our rules.
    graded, replies = run.summary["grading"], run.rows("predictions")
    assert (graded["grader"], graded["differ"]) == ("math_verify", 0)
    # Routed mode takes the replies of the other two.
    assert graded["replies"] == sum(row["mode"] != "routed" for row in replies) > 0
    assert all(row["rules_correct"] == row["correct"] for row in replies)
    # An export knows the questions again, whose digest names the grader.
    assert main(["export", str(run.folder), "--to", "trl"]) == 0

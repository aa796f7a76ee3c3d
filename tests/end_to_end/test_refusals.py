"""Bad input that only the whole job can see: exit 2, one line, nothing written over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest


def refuse(run: Any) -> str:
    """The one line of a refused run."""
    assert run.status == 2, run.err
    assert run.err.count("\n") == 1, run.err
    assert not (run.folder / "summary.json").exists()
    assert "Traceback" not in run.err
    return run.err


def test_a_model_folder_without_weights(workshop: Any, small: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    line = refuse(workshop.run(*small.words, f"model.path={folder}"))
    assert "has no model.safetensors" in line
    assert workshop.made() == []


def test_a_model_folder_that_is_not_there(workshop: Any, small: Any, tmp_path: Path) -> None:
    line = refuse(workshop.run(*small.words, f"model.path={tmp_path / 'nowhere'}"))
    assert "does not exist" in line


@pytest.mark.parametrize("until", ["score", "report"])
def test_a_prompt_longer_than_the_context(
    workshop: Any, small: Any, tmp_path: Path, until: str
) -> None:
    file = write_rows(tmp_path / "long.jsonl", long_row=7, words=3000)
    line = refuse(workshop.run(*local(small, file), "method=sft", f"until={until}"))
    assert "of the model's 2048" in line
    assert workshop.made() == []


def test_a_prompt_that_leaves_no_room_for_a_rationale_is_refused_before_scoring(
    workshop: Any, small: Any, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.jsonl", long_row=7, words=10)
    words = (*local(small, file), "method=sft", "dataset.max_new_tokens=2040")
    line = refuse(workshop.run(*words))
    assert "which leaves less than 2040" in line
    assert workshop.made() == []


@pytest.mark.parametrize("dial", ["split.estimator=", "score.estimators="])
@pytest.mark.parametrize("estimator", ["fallback_entropy", "fallback_declines"])
def test_declining_is_no_reply_where_every_text_is_an_answer(
    workshop: Any, small: Any, tmp_path: Path, dial: str, estimator: str
) -> None:
    rows = [{"question": f"{n} minus {n}?", "answer": "0"} for n in range(30)]
    file = tmp_path / "free.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    value = estimator if dial.startswith("split") else f"[{estimator}]"
    words = (*local(small, file, "text"), "until=score")
    # Before the model is even looked for.
    line = refuse(workshop.run(*words, f"model.path={tmp_path / 'nowhere'}", f"{dial}{value}"))
    assert f"the estimator {estimator} needs questions with options" in line
    assert "is free text; use answer_entropy" in line


def test_gold_that_a_model_may_not_write_is_refused_and_the_advice_works(
    workshop: Any, small: Any, tmp_path: Path
) -> None:
    file = tmp_path / "free.jsonl"
    rows = [{"question": f"Why {n}?", "answer": f"because of {n} things " * 8} for n in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = (*local(small, file, "text"), "until=score")
    line = refuse(workshop.run(*words))
    assert "30 of 30 gold answers: more tokens than the 16 that score.free_answer_tokens" in line
    (advised,) = re.findall(r"set (score\.free_answer_tokens=\d+)", line)
    assert workshop.run(*words, advised, "dry_run=true").status == 0
    assert workshop.made() == []


def test_a_member_of_an_answer_set_of_several_tokens_gets_advice_that_works(
    workshop: Any, small: Any, tmp_path: Path
) -> None:
    file = tmp_path / "closed.jsonl"
    rows = [{"question": f"Is {n} even?", "answer": n % 2 == 0} for n in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = (*local(small, file, "text"), "dataset.columns.options=null", "until=score")
    line = refuse(workshop.run(*words, "dataset.answer_set=[true,false]"))
    assert "option_ids" not in line
    (advised,) = re.findall(r"set (dataset\.answer_set=\[\]) with dataset=text", line)
    assert workshop.run(*words, advised).status == 0


def write_rows(path: Path, *, long_row: int, words: int) -> Path:
    rows = [
        {
            "question": f"Is {number} even? " + "well " * (words if number == long_row else 1),
            "options": ["yes", "no"],
            "answer": "AB"[number % 2],
        }
        for number in range(30)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def local(small: Any, file: Path, dataset: str = "local") -> tuple[str, ...]:
    return (*small.tiny, f"dataset={dataset}", f"dataset.train_path={file}")


def test_a_file_in_the_stores_place(workshop: Any, small: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below"):
        line = refuse(workshop.run(*small.words, f"store.path={path}"))
        assert f"store.path is {path}" in line
    assert file.read_text() == "mine"


def test_a_finished_run_is_not_written_over(whole_run: Any, shared: Any, small: Any) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in whole_run.folder.rglob("*") if path.is_file()
    }
    again = shared.run(*small.words, f"hydra.run.dir={whole_run.folder}")
    assert again.status == 2
    assert "holds a finished run" in again.err
    assert before == {
        path: path.stat().st_mtime_ns for path in whole_run.folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.accelerator=abacus", "trainer.accelerator is 'abacus'"),
        ("split.estimator=entropi", "split.estimator is entropi"),
        ("tuning.lora.modules=[nowhere]", "tuning.lora.modules is ['nowhere']"),
        ("tuning.max_length=5", "exceed the 5 allowed"),
        (
            "split=random split.match=calls split.reference=rationale_length",
            "buys every question's rationale",
        ),
    ],
)
def test_dials_that_do_not_fit(
    shared: Any, whole_run: Any, small: Any, word: str, said: str
) -> None:
    line = refuse(shared.run(*small.words, small.two_stages, *word.split()))
    assert said in line

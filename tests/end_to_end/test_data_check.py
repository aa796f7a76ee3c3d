"""Rows that cannot be trained stop a run before its first stage trains, not between two stages."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caft.hydra_bridge import compose
from caft.models.sources.locate import locate_model
from caft.pipeline import data_check

# In tokens: above every answer row, and between the rationale rows of one term and of more.
BETWEEN = 40


def refuse(run: Any) -> str:
    assert run.status == 2, run.err
    assert run.err.count("\n") == 1, run.err
    return run.err


def test_a_row_of_the_last_stage_stops_the_run_before_the_first_trains(
    shared: Any, whole_run: Any, small: Any
) -> None:
    made = shared.made()
    line = refuse(shared.run(*small.words, small.two_stages, f"tuning.max_length={BETWEEN}"))
    (name,) = re.findall(r"question (\S+) makes a training row of", line)
    placed = {row["question_id"]: row["complexity"] for row in whole_run.rows("scores")}
    assert placed[name] == "hard"
    assert shared.made() == made


def test_a_stage_in_the_store_is_not_checked_again_and_the_next_one_is(
    shared: Any, whole_run: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []

    def encode(work: Any) -> Any:
        checked.append(len(work.pairs))
        return encode_rows(work)

    encode_rows = data_check.encode_rows
    monkeypatch.setattr(data_check, "encode_rows", encode)
    assert shared.run(*small.words, small.two_stages, "until=tune").status == 0
    assert checked == []
    longer = small.two_stages.replace("{hard:rationale},epochs:1", "{hard:rationale},epochs:2")
    run = shared.run(*small.words, longer, "until=tune")
    assert (run.status, run.cached) == (0, ["score", "distill", "tune 1"])
    assert checked == [10]


def test_rows_left_out_are_told_also_when_the_stages_come_from_the_store(
    shared: Any, whole_run: Any, small: Any
) -> None:
    dials = (f"tuning.max_length={BETWEEN}", "tuning.overlong=drop", "until=tune")
    runs = [shared.run(*small.words, small.two_stages, *dials) for _ in range(2)]
    assert runs[1].cached == ["score", "distill", "tune 1", "tune 2"]
    assert "tune 2" not in runs[0].cached
    for run in runs:
        first, second = run.summary["tuning"]
        assert (first["dropped"], first["dropped_ids"]) == (0, [])
        assert second["dropped"] == len(set(second["dropped_ids"])) == 6
        told = "Stage 2 trained 4 rows; 6 more were too long and left out: "
        assert told + second["dropped_ids"][0] in " ".join(run.out.split())
        assert told in (run.folder / "report.html").read_text(encoding="utf-8")


def with_shots(work_of: Any) -> Any:
    """Evaluation as it would be if tuned models were shown solved questions, too."""

    def describe(workspace: Any, *rest: Any) -> Any:
        return replace(work_of(workspace, *rest), shots=workspace.questions.shots)

    return describe


@pytest.mark.parametrize(
    ("work_of", "word"),
    [
        ("tuned_scoring", "tuning.answer_target=bare"),
        ("tuned_replies", "tuning.answer_target=bracketed"),
        ("tuned_replies", "tuning.answer_target=bare"),
    ],
)
def test_prompts_that_evaluation_sends_otherwise_are_refused(  # noqa: PLR0917
    shared: Any,
    whole_run: Any,
    small: Any,
    monkeypatch: pytest.MonkeyPatch,
    work_of: str,
    word: str,
) -> None:
    made = shared.made()
    monkeypatch.setattr(data_check, work_of, with_shots(getattr(data_check, work_of)))
    words = (*small.words, small.two_stages, "tuning.learning_rate=0.5", word)
    assert "is trained with another prompt than evaluation" in refuse(shared.run(*words))
    assert shared.made() == made


def test_a_chat_template_without_a_bos_is_told_once_and_not_refused(
    workshop: Any, small: Any, tmp_path: Path
) -> None:
    config = compose([*small.tiny, "dataset=arithmetic"])
    folder = shutil.copytree(locate_model(config.model), tmp_path / "model")
    template = folder / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    assert text.startswith("{{ bos_token }}")
    template.write_text(text.removeprefix("{{ bos_token }}"), encoding="utf-8")
    chat = (f"model.path={folder}", "dataset.prompt.style=chat")
    words = (*small.words, *chat, small.two_stages)
    # Refused when the first stage loads the model: what comes before has come by then.
    run = workshop.run(*words, "tuning.lora.modules=[nowhere]")
    assert "tuning.lora.modules is ['nowhere']" in refuse(run)
    log = (run.folder / "run.log").read_text(encoding="utf-8")
    assert log.count("begins without the BOS token") == 1


def test_why_accuracy_is_of_fewer_questions_than_the_data_has_is_told_once(
    shared: Any, whole_run: Any, small: Any
) -> None:
    few = ("tuning.validation_replies=2", "tuning.lora.modules=[nowhere]")
    run = shared.run(*small.words, small.two_stages, *few)
    refuse(run)
    log = (run.folder / "run.log").read_text(encoding="utf-8")
    told = re.findall(r"stage (\d): after an epoch (\d) of (\d) validation questions are", log)
    assert told == [("2", "2", "8")]


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        (("tuning.select=best",), 2),
        (("tuning.patience=2",), 2),
        (("tuning.select=best", "tuning.answer_target=bracketed"), 1),
    ],
)
def test_a_best_epoch_that_nothing_would_measure_is_refused_before_scoring(
    workshop: Any, small: Any, words: tuple[str, ...], stage: int
) -> None:
    asked = (*small.words, small.two_stages, "tuning.validation_replies=0", *words)
    line = refuse(workshop.run(*asked))
    assert line.startswith(words[0])
    assert f"stage {stage} of the method" in line
    assert workshop.made() == []

"""Scoring that is cut off goes on where it stopped, and several processes are like one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.errors import UserError
from caft.models.config import Architecture, Dtype, TinyModelConfig
from caft.models.student import Student
from caft.records import AnswerScore, Question
from caft.score.config import ChainConfig, ModelScoreConfig
from caft.score.module import ScoringModule
from caft.score.stage import CotInputs, ScoreInputs
from caft.signals import watch_signals
from caft.store import Journal, Store
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.trainers.predicting import Predictor
from numerics import WORST_MULTIPLE, chain_of

ONE = TrainerConfig(accelerator="cpu", progress=False)
TWO = TrainerConfig(accelerator="cpu", progress=False, devices=2)
QUESTIONS = [
    Question(
        id=f"q{number}",
        text=f"What is {number} + 3?" + " Mind the step." * (number % 4),
        options=tuple(str(number + offset) for offset in range(2 + number % 3)),
        gold_index=number % 2,
    )
    for number in range(24)
]
FREE = [Question(id=f"f{n}", text=f"Who wrote book {n}?", gold_text="Emma") for n in range(6)]


@pytest.fixture
def student(tiny_student: Callable[..., Student]) -> Student:
    return tiny_student(architecture=Architecture.llama)


def scoring(
    student: Student, questions: list[Question] = QUESTIONS, trainer: TrainerConfig = ONE
) -> ScoreInputs:
    return ScoreInputs(
        student=student,
        questions=questions,
        shots=(),
        prompt=PromptConfig(),
        trainer=trainer,
        config=ModelScoreConfig(batch_tokens=120, free_answer_tokens=4),
    )


def chaining(student: Student, questions: list[Question], tokens: int) -> CotInputs:
    return CotInputs(
        student=student,
        questions=questions,
        shots=(),
        prompt=PromptConfig(),
        trainer=ONE,
        config=ChainConfig(max_new_tokens=tokens),
    )


def score(
    student: Student, folder: Path, trainer: TrainerConfig = ONE, **more: Any
) -> list[AnswerScore]:
    stage = scoring(student, trainer=trainer, **more)
    return ScoreInputs.read(Store(folder).obtain(stage).folder)


def count_passes(monkeypatch: pytest.MonkeyPatch, *, most: int | None = None) -> list[list[str]]:
    """The questions of every forward pass from now on; the pass after `most` is interrupted."""
    passes: list[list[str]] = []
    step = ScoringModule.predict_step

    def counted(self: ScoringModule, batch: Any, batch_idx: int) -> Any:
        if most is not None and len(passes) == most:
            raise KeyboardInterrupt
        passes.append([row.question_id for row in batch.rows])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ScoringModule, "predict_step", counted)
    return passes


def test_an_interrupted_scoring_repeats_nothing(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(student, tmp_path / "whole")
    with monkeypatch.context() as patch:
        before = count_passes(patch, most=3)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            score(student, tmp_path / "cut")
    with monkeypatch.context() as patch:
        after = count_passes(patch)
        resumed = score(student, tmp_path / "cut")
    asked = [name for each in (*before, *after) for name in each]
    assert sorted(asked) == sorted(question.id for question in QUESTIONS)
    assert len(before) == 3
    assert resumed == whole
    left = list((tmp_path / "cut" / "score").rglob("*.jsonl"))
    assert left == []


def test_a_damaged_line_of_the_journal_is_scored_again_and_no_other(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    whole = score(student, tmp_path / "whole")
    with monkeypatch.context() as patch:
        before = count_passes(patch, most=3)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            score(student, tmp_path / "cut")
    (journal,) = (tmp_path / "cut").rglob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    # Still JSON, and another entropy.
    lines[1] = lines[1].replace(b"0.", b"1.", 1)
    journal.write_bytes(b"".join(lines))
    after = count_passes(monkeypatch)
    assert score(student, tmp_path / "cut") == whole
    assert f"line 2 of {journal} has another checksum" in caplog.text
    asked = [name for each in after for name in each]
    kept = {*before[0], *before[2]}
    assert sorted(asked) == sorted(row.id for row in QUESTIONS if row.id not in kept)


def test_a_model_that_cannot_be_loaded_leaves_nothing_in_the_store(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_student: Student) -> None:
        raise UserError("it cannot be loaded")

    monkeypatch.setattr(Student, "load_for_inference", refuse)
    with pytest.raises(UserError, match="it cannot be loaded"):
        score(student, tmp_path)
    assert list((tmp_path / "score").iterdir()) == []


def test_a_signal_ends_scoring_after_the_pass_in_progress(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning takes SIGTERM over and its predict loop never asks whether it came."""
    whole = score(student, tmp_path / "whole")
    step = ScoringModule.predict_step
    passes: list[int] = []

    def signalled(self: ScoringModule, batch: Any, batch_idx: int) -> Any:
        passes.append(len(batch.rows))
        if len(passes) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ScoringModule, "predict_step", signalled)
        with pytest.raises(SystemExit), watch_signals() as caught:
            score(student, tmp_path / "cut")
    assert (len(passes), caught.status) == (2, 143)
    after = count_passes(monkeypatch)
    assert score(student, tmp_path / "cut") == whole
    assert sum(map(len, after)) == len(QUESTIONS) - sum(passes)


def test_a_torn_line_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "scoring")
    journal.append([{"question_id": "a", "x": 0.1}, {"question_id": "b", "x": 1e-300}])
    journal.append([{"question_id": "c", "x": 2.0}])
    (file,) = tmp_path.glob("*.jsonl")
    file.write_text(file.read_text()[:-5])
    again = Journal(tmp_path, "scoring")
    assert [row["question_id"] for row in again.read()] == ["a", "b"]
    again.append([{"question_id": "c", "x": 3.0}])
    assert [row["x"] for row in Journal(tmp_path, "scoring").read()] == [0.1, 1e-300, 3.0]


def test_chains_keep_the_spread_of_every_token(student: Student, tmp_path: Path) -> None:
    work = chaining(student, QUESTIONS[:3], tokens=5)
    chains = CotInputs.read(Store(tmp_path).obtain(work).folder)
    assert [chain.question_id for chain in chains] == ["q0", "q1", "q2"]
    for chain in chains:
        assert len(chain.pieces) == len(chain.entropies) == len(chain.margins) <= 5
        assert all(entropy > 0 for entropy in chain.entropies)
    again = Store(tmp_path).obtain(work)
    assert again.cached
    assert CotInputs.read(again.folder) == chains


def test_a_span_that_the_template_opens_is_known_to_the_writer_and_to_the_chain(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[str | None] = []
    write = Predictor.write_samples

    def watched(self: Predictor, prompts: Any, rules: Any, **rest: Any) -> Any:
        spans.append(rules.thinking and rules.thinking.span.opens)
        return write(self, prompts, rules, **rest)

    monkeypatch.setattr(Predictor, "write_samples", watched)
    work = chaining(student, QUESTIONS[:2], tokens=3)
    plain = CotInputs.read(Store(tmp_path / "plain").obtain(work).folder)
    student.tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    opened = CotInputs.read(Store(tmp_path / "opened").obtain(work).folder)
    assert [chain.opened for chain in plain + opened] == [False, False, True, True]
    assert spans == [None, "<think>"]


def test_logits_that_are_not_finite_stop_before_the_table(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Student.load_for_inference
    monkeypatch.setattr(Student, "load_for_inference", lambda self: spoil(load(self)))
    with pytest.raises(UserError, match=r"question q\d+: the model's logits are not finite"):
        score(student, tmp_path)
    assert list((tmp_path / "score").glob("[!.]*")) == []


def spoil(model: Any) -> Any:
    model.model.norm.weight.data[3] = float("nan")
    return model


@pytest.mark.slow
def test_two_processes_make_the_table_of_one(student: Student, tmp_path: Path) -> None:
    questions = [*QUESTIONS, *FREE]
    one = score(student, tmp_path / "one", questions=questions)
    two = score(student, tmp_path / "two", TWO, questions=questions)
    # A process of two has half of the threads, which add up in another order. 8: logits, at most.
    rounding = 8 * WORST_MULTIPLE * chain_of(student.load()).roundoff(torch.float32)
    assert [each.question_id for each in two] == [question.id for question in questions]
    for first, second in zip(one, two, strict=True):
        assert second.estimates == pytest.approx(first.estimates, abs=rounding)
        # Two tokens that are as good as tied may change places.
        assert first.estimates["top1_margin"] <= rounding or (
            (first.predicted, first.valid, first.correct)
            == (second.predicted, second.valid, second.correct)
        )


@pytest.mark.slow
def test_a_refusal_in_a_child_process_is_one_line_here(student: Student, tmp_path: Path) -> None:
    spoilt = student.load()
    spoil(spoilt)
    folder = tmp_path / "spoilt"
    spoilt.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)
    config = TinyModelConfig(name="t", id="t", path=str(folder), dtype=Dtype.float32)
    with pytest.raises(UserError, match=r"question q\d+: the model's logits are not finite"):
        score(Student(config, folder, "cpu"), tmp_path / "store", TWO)


ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_killed_scoring_goes_on_where_it_stopped(tmp_path: Path) -> None:
    words = [
        "model=tiny", "model.dtype=float32", "trainer.accelerator=cpu", "trainer.progress=false",
        "dataset.train=1500", "dataset.validation=8", "dataset.test=8", "score.batch_tokens=16",
        "until=score", "report.html=false",
    ]  # fmt: skip

    def start(name: str, store: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "train.py"), *words, f"hydra.run.dir={name}",
                   f"store.path={tmp_path / store}"]  # fmt: skip
        return subprocess.Popen(
            command, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def journaled() -> list[str]:
        files = (tmp_path / "cut" / "score").glob(".unfinished-*/predictions-*.jsonl")
        lines = [line for file in sorted(files) for line in file.read_text().split("\n")[:-1]]
        # A line is a checksum and JSON.
        return [row["question_id"] for line in lines for row in json.loads(line[9:])]

    with start("first", "cut") as process:
        end = time.monotonic() + 300
        while len(journaled()) < 20:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = journaled()
    assert 20 <= len(kept) < 1516
    with start("second", "cut") as process:
        out, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert f"{len(kept)} results of an interrupted attempt are kept" in out + errors
    with start("whole", "whole") as process:
        process.communicate(timeout=400)
    tables = [
        ScoreInputs.read(store.artifacts()[0].folder)
        for store in (Store(tmp_path / "cut"), Store(tmp_path / "whole"))
    ]
    assert tables[0] == tables[1]

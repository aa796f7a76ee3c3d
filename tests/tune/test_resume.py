"""An interrupted stage ends as an uninterrupted one: the same weights and curve, bit for bit."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.errors import UserError
from caft.models.config import Architecture, TinyModelConfig
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.records import Question, Target
from caft.signals import Caught, watch_signals
from caft.store import Checkpoints, Store
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.tune import training
from caft.tune.config import LoraConfig, Schedule, Select, TuningConfig
from caft.tune.draws import Draws
from caft.tune.examples import TrainingPair
from caft.tune.stage import TuneInputs, Validation

QUIET = TrainerConfig(accelerator="cpu", progress=False)
EPOCHS, STEPS = 3, 9
KILLS = 12


class StoppedError(Exception):
    """What a test throws into the middle of a stage."""


class StoppingLogger:
    """Gets the rows of the curve, and stops the run at one of them."""

    def __init__(self, row: int) -> None:
        self.left = row

    def __call__(self, row: dict[str, float]) -> None:
        self.left -= 1
        if self.left == 0:
            raise StoppedError


def question(number: int) -> Question:
    return Question(
        id=f"q{number}", text=f"Pick {number}", options=("red", "blue"), gold_index=number % 2
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory) -> Any:
    """What `work` makes of the Llama class when nothing stops it."""
    return outcome(train(work(models), tmp_path_factory.mktemp("whole")))


def work(models: str, architecture: str = "llama", **dials: Any) -> TuneInputs:
    model = TinyModelConfig(
        name="tiny",
        id="tiny",
        cache=models,
        architecture=Architecture[architecture],
        hidden_size=32,
    )
    config = TuningConfig(
        **{
            "batch_size": 4,
            "lora": LoraConfig(r=4, dropout=0.2),
            "checkpoint_seconds": 0.0,
            "select": Select.best,
            # At a falling one another number of epochs would be another training.
            "schedule": Schedule.constant,
            **dials,
        }
    )
    asked = [(question(number), Target.answer) for number in range(20, 26)]
    return TuneInputs(
        Student(model, locate_model(model), "cpu"),
        [TrainingPair(question(number), Target.answer, "easy") for number in range(10)],
        EPOCHS,
        PromptConfig(),
        config,
        seed=5,
        trainer=QUIET,
        validation=Validation(asked, 4),
    )


def outcome(artifact: Any) -> tuple[dict[str, torch.Tensor], Any]:
    from safetensors.torch import load_file

    weights = load_file(artifact.folder / "adapter" / "adapter_model.safetensors")
    return weights, TuneInputs.read(artifact.folder).curve


def same(left: Any, right: Any) -> bool:
    return left[1] == right[1] and all(left[0][name].equal(right[0][name]) for name in left[0])


def train(tuning: TuneInputs, store: Path, record: Any = None) -> Any:
    return Store(store).obtain(replace(tuning, record=record))


def checkpoints_in(store: Path) -> Checkpoints:
    (folder,) = store.glob("tune/.unfinished-*/checkpoints")
    return Checkpoints(folder)


@pytest.mark.parametrize(
    ("architecture", "rows"),
    [
        ("llama", (1, 2, 7, 8, 12)),
        ("qwen2", (6,)),
        pytest.param("phi3", (6,), marks=pytest.mark.slow),
    ],
)
def test_stopped_anywhere_and_resumed_it_ends_as_if_never_stopped(
    models, whole, tmp_path, architecture, rows
):
    tuning = work(models, architecture)
    if architecture != "llama":
        whole = outcome(train(tuning, tmp_path / "whole"))
    # Rows of the curve: nine steps, and a validation after every third.
    assert len(whole[1]) == STEPS + EPOCHS
    # At the first row, in the middle, at an epoch's last step, at its validation, at the very end.
    for row in rows:
        store = tmp_path / f"stopped-{row}"
        with pytest.raises(StoppedError):
            train(tuning, store, StoppingLogger(row))
        artifact = train(tuning, store)
        assert not artifact.cached
        assert same(outcome(artifact), whole), row
        assert not (artifact.folder / "checkpoints").exists()


def test_a_stage_that_draws_and_weighs_resumes_with_the_same_draws(models, tmp_path):
    pairs = [
        TrainingPair(question(number), Target.answer, "hard" if number < 10 else "easy")
        for number in range(14)
    ]
    tuning = replace(
        work(models), pairs=pairs, draws=Draws({"hard": 5}, 5, 0), weights={"hard": 2.0}
    )
    whole = outcome(train(tuning, tmp_path / "whole"))
    # Nine rows an epoch of fourteen, four a step.
    assert len(whole[1]) == STEPS + EPOCHS
    for row in (2, 4, 6):
        store = tmp_path / f"stopped-{row}"
        with pytest.raises(StoppedError):
            train(tuning, store, StoppingLogger(row))
        assert same(outcome(train(tuning, store)), whole), row
    others = (
        replace(tuning, draws=Draws({"hard": 5}, 5, 1)),
        replace(tuning, weights={}),
        replace(tuning, shares={"hard": {Target.rationale: 0.5, Target.answer: 0.5}}),
        replace(tuning, shares={"hard": {Target.rationale: 0.6, Target.answer: 0.4}}),
    )
    assert len({str(each.key) for each in (tuning, *others)}) == 5
    # A share of everything is what a class with one target has.
    assert replace(tuning, shares={"hard": {Target.answer: 1.0}}).key == tuning.key


def test_a_damaged_checkpoint_is_named_and_the_one_before_gives_the_same_end(
    models, whole, tmp_path, caplog
):
    tuning = work(models)
    store = tmp_path / "damaged"
    with pytest.raises(StoppedError):
        train(tuning, store, StoppingLogger(7))
    newest = checkpoints_in(store).newest()
    assert newest is not None
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with caplog.at_level(logging.INFO):
        artifact = train(tuning, store)
    assert "is damaged" in caplog.text
    assert f"resumed after step {int(newest.parent.name[-9:]) - 1} of {STEPS}" in caplog.text
    assert same(outcome(artifact), whole)


@pytest.mark.slow
def test_what_hands_and_disks_leave_beside_the_checkpoints_changes_nothing(models, whole, tmp_path):
    tuning = work(models)
    store = tmp_path / "untidy"
    with pytest.raises(StoppedError):
        train(tuning, store, StoppingLogger(7))
    (unfinished,) = Store(store).folders(".unfinished-")
    (unfinished / ".attempt").write_bytes(b"\xff garbage")
    newest = checkpoints_in(store).newest()
    assert newest is not None
    shutil.copytree(newest.parent, unfinished / "checkpoints" / "step-copy")
    # A finished stage's file, as an earlier version wrote it first, is believed by nobody.
    (unfinished / "tuning.json").write_text("{")
    (unfinished / "adapter").symlink_to("nowhere")
    artifact = train(tuning, store)
    assert same(outcome(artifact), whole)
    assert sorted(path.name for path in artifact.folder.iterdir()) == [
        "adapter",
        "manifest.json",
        "tuning.json",
    ]


def test_checkpoints_hold_the_trained_weights_only(models, tmp_path):
    with pytest.raises(StoppedError):
        train(work(models), tmp_path, StoppingLogger(6))
    newest = checkpoints_in(tmp_path).newest()
    assert newest is not None
    state = torch.load(newest, weights_only=True)
    assert state["weights"]
    assert all("lora_" in name for name in state["weights"])
    assert len(state["optimizer"]["state"]) == len(state["weights"])


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(models, tmp_path):
    tuning = work(models, learning_rate=1e18)
    with pytest.raises(UserError, match=r"at step \d of 9 .*learning rate 1e\+18"):
        train(tuning, tmp_path)
    checkpoints = checkpoints_in(tmp_path)
    newest = checkpoints.newest()
    assert newest is not None
    state = torch.load(newest, weights_only=True)
    assert all(weight.isfinite().all() for weight in state["weights"].values())


def test_the_best_epoch_is_handed_over_and_patience_ends_the_stage(models, whole, tmp_path):
    weights, curve = whole
    final = train(work(models, select=Select.final), tmp_path)
    assert curve == TuneInputs.read(final.folder).curve
    measured = [row["validation_accuracy"] for row in curve if "validation_accuracy" in row]
    first = measured.index(max(measured)) + 1
    alone = train(replace(work(models, select=Select.final), epochs=first), tmp_path)
    assert all(weights[name].equal(other) for name, other in outcome(alone)[0].items())
    patient = TuneInputs.read(train(work(models, patience=1), tmp_path).folder)
    assert patient.epochs == min(
        [EPOCHS, *(n + 1 for n in range(1, EPOCHS) if measured[n] <= max(measured[:n]))]
    )


class AskedLogger:
    """At the first row a signal comes, and some library drops what it raises."""

    def __init__(self, caught: Caught) -> None:
        self.caught = caught

    def __call__(self, row: dict[str, float]) -> None:
        self.caught.number = signal.SIGTERM


@pytest.mark.slow
def test_a_signal_that_somebody_swallowed_ends_the_stage_after_its_step(models, whole, tmp_path):
    tuning = work(models)
    with watch_signals() as caught, pytest.raises(SystemExit):
        train(tuning, tmp_path / "asked", AskedLogger(caught))
    assert checkpoints_in(tmp_path / "asked").steps()[-1] == 2
    assert same(outcome(train(tuning, tmp_path / "asked")), whole)


class InterruptingLogger:
    """Ctrl-C at the first row, which is before the step's checkpoint."""

    def __call__(self, row: dict[str, float]) -> None:
        if row["step"] == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_lets_the_step_end_and_keeps_its_checkpoint(models, whole, tmp_path):
    tuning = work(models, checkpoint_seconds=3600.0)
    with watch_signals() as caught, pytest.raises(SystemExit):
        train(tuning, tmp_path / "asked", InterruptingLogger())
    assert caught.status == 130
    assert checkpoints_in(tmp_path / "asked").steps() == [2]
    assert same(outcome(train(tuning, tmp_path / "asked")), whole)


class EpochEndLogger:
    """A signal comes with the row of the first validation, behind the epoch's last step."""

    def __call__(self, row: dict[str, float]) -> None:
        if "validation_accuracy" in row:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("seconds", [0.0, pytest.param(3600.0, marks=pytest.mark.slow)])
def test_a_signal_at_an_epochs_end_finds_its_step_kept_or_keeps_it(
    models, whole, tmp_path, seconds
):
    tuning = work(models, checkpoint_seconds=seconds)
    with watch_signals() as caught, pytest.raises(SystemExit):
        train(tuning, tmp_path / "asked", EpochEndLogger())
    assert caught.status == 143
    assert checkpoints_in(tmp_path / "asked").steps()[-1] == STEPS // EPOCHS
    assert same(outcome(train(tuning, tmp_path / "asked")), whole)


@pytest.mark.slow
def test_a_signal_during_validation_keeps_the_epochs_last_step(
    models, whole, tmp_path, monkeypatch
):
    tuning = work(models, checkpoint_seconds=3600.0)
    store = tmp_path / "asked"
    count = training.count_correct
    with monkeypatch.context() as patch:

        def signalled(*arguments: Any) -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return count(*arguments)

        patch.setattr(training, "count_correct", signalled)
        # The second time the stage has just resumed and nothing is new.
        for _ in range(2):
            with watch_signals(), pytest.raises(SystemExit):
                train(tuning, store)
            assert checkpoints_in(store).steps() == [STEPS // EPOCHS]
    assert same(outcome(train(tuning, store)), whole)


class FillingLogger:
    """At the last row of the curve the disk is full: no file may grow beyond a few bytes."""

    def __call__(self, row: dict[str, float]) -> None:
        if (row["step"], "validation_accuracy" in row) == (STEPS, True):
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))


def test_a_disk_that_is_full_at_the_end_keeps_the_last_checkpoint(models, whole, tmp_path):
    tuning = work(models)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError, match=r"cannot be written .*File too large; make room"):
            train(tuning, tmp_path / "full", FillingLogger())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoints_in(tmp_path / "full").steps() == [STEPS - 1, STEPS]
    assert same(outcome(train(tuning, tmp_path / "full")), whole)


@pytest.mark.slow
def test_killed_at_a_dozen_random_points_of_two_stages_it_ends_with_the_same_bits(models, tmp_path):
    """A helper of one thread forks a process an attempt and kills it with SIGKILL."""
    script = Path(__file__).with_name("killed_jobs.py")
    done = subprocess.run(
        [sys.executable, str(script), models, str(tmp_path), str(KILLS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == KILLS
    assert found["killed_in_stage"]["1"] > 0
    assert found["killed_in_stage"]["2"] > 0
    assert found["same_weights"]
    assert found["same_curves"]
    # SIGTERM: a checkpoint within one step, and the status that Slurm expects.
    assert found["sigterm_status"] == 143
    assert found["steps_after_sigterm"] <= 1
    assert found["sigterm_same_weights"]

"""Two devices give the weights of one: the same steps, each half of their rows, summed by token.

Rows train 2 to 9 tokens and the last step has a single row, so that an average over devices, or
a device without rows, would show.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.errors import UserError
from caft.models.config import Architecture, Dtype, TinyModelConfig
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.records import Question, Target
from caft.store import Store
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.tune.config import Adapter, Schedule, TuningConfig
from caft.tune.examples import TrainingPair
from caft.tune.stage import TuneInputs, Validation
from numerics import WORST_MULTIPLE, Chain


def question(number: int) -> Question:
    return Question(
        id=f"q{number}", text=f"Pick {number}", options=("red", "blue"), gold_index=number % 2
    )


def work(cache: Path, adapter: Adapter) -> TuneInputs:
    model = TinyModelConfig(
        name="tiny",
        id="tiny",
        cache=str(cache),
        architecture=Architecture.phi3 if adapter is Adapter.lora else Architecture.llama,
        dtype=Dtype.float32,
    )
    pairs = [
        TrainingPair(question(n), Target.answer, "easy")
        if n % 2
        else TrainingPair(question(n), Target.rationale, "hard", "because " * (n + 1) + "[[A]]")
        for n in range(9)
    ]
    return TuneInputs(
        Student(model, locate_model(model), "cpu"),
        pairs,
        2,
        PromptConfig(),
        TuningConfig(adapter=adapter, batch_size=4, learning_rate=1e-3, schedule=Schedule.constant),
        seed=3,
        trainer=TrainerConfig(accelerator="cpu", progress=False),
        validation=Validation([(question(n), Target.answer) for n in range(20, 25)], 4),
    )


def result(tuning: TuneInputs, store: Path, trainer: TrainerConfig) -> Any:
    from safetensors.torch import load_file

    artifact = Store(store).obtain(replace(tuning, trainer=trainer))
    (file,) = (artifact.folder / "adapter").glob("*.safetensors")
    return load_file(file), TuneInputs.read(artifact.folder)


def relative(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """The length of the difference by that of the weights, over all of `weights` at once."""
    squares = sum(float((w - others[name]).double().square().sum()) for name, w in weights.items())
    return (squares / sum(float(w.double().square().sum()) for w in weights.values())) ** 0.5


@pytest.mark.parametrize(
    "adapter", [Adapter.lora, pytest.param(Adapter.full, marks=pytest.mark.slow)]
)
def test_two_processes_give_the_weights_of_one(tmp_path, adapter):
    """As nearly as one process does that cuts its steps into other passes.

    Rounding has no fixed size here: AdamW divides it by gradients that are near zero.
    """
    tuning = work(tmp_path / "models", adapter)
    row_by_row = replace(tuning, config=replace(tuning.config, batch_tokens=1))
    one = TrainerConfig(accelerator="cpu", progress=False)
    two = TrainerConfig(accelerator="cpu", progress=False, devices=2)
    weights, numbers = result(tuning, tmp_path / "one", one)
    recut, _ = result(row_by_row, tmp_path / "recut", one)
    others, again = result(tuning, tmp_path / "two", two)
    assert set(weights) == set(others)
    # Two epochs of three steps, each a way through nine products a pass and back.
    rounding = Chain(width=128, depth=6 * 2 * 9).roundoff(torch.float32)
    groups = [tuple(weights)]
    if adapter is Adapter.full:
        # Each by itself, too. Of adapters, the matrices that start at zero are nothing but AdamW's
        # steps.
        groups += [(name,) for name in weights]
    for names in groups:
        part = {name: weights[name] for name in names}
        assert relative(part, others) <= WORST_MULTIPLE * relative(part, recut) + rounding, names
    assert numbers.trained_tokens == again.trained_tokens
    for left, right in zip(numbers.curve, again.curve, strict=True):
        # 2e-6 was seen: of the norm of a gradient, after five steps.
        assert left == pytest.approx(right, rel=1e-4)


@pytest.mark.slow
def test_what_a_child_refuses_is_said_by_the_parent(tmp_path):
    tuning = work(tmp_path / "models", Adapter.full)
    tuning.config.learning_rate = 1e18
    two = TrainerConfig(accelerator="cpu", progress=False, devices=2)
    with pytest.raises(UserError, match=r"learning rate 1e\+18"):
        result(tuning, tmp_path / "store", two)

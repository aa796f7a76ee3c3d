"""Hidden states come from the pass that scores, and change nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from caft.models.config import Architecture
from caft.models.student import Student
from caft.records import Question
from caft.score.config import ModelScoreConfig
from caft.score.stage import ScoreInputs
from caft.store import Store
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig

pytestmark = pytest.mark.numerics

QUESTIONS = [
    Question(id=f"q{n}", text="Well, " * (n % 3) + f"{n} + 3?", options=("1", "2"), gold_index=0)
    for n in range(7)
]


def test_the_states_are_those_of_a_plain_pass_and_the_scores_the_same(
    tiny_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = tiny_student(architecture=Architecture.qwen2)
    plain = ScoreInputs(
        student=student,
        questions=QUESTIONS,
        shots=(),
        prompt=PromptConfig(),
        trainer=TrainerConfig(accelerator="cpu", progress=False),
        config=ModelScoreConfig(batch_tokens=64),
    )
    keeping, store = replace(plain, keeps_hidden=True), Store(tmp_path / "store")
    assert plain.key != keeping.key
    assert plain.key == {name: value for name, value in keeping.key.items() if name != "hidden"}
    kept, other = store.obtain(keeping), store.obtain(plain)
    assert keeping.read(kept.folder) == plain.read(other.folder)
    assert not (other.folder / "hidden.parquet").exists()
    states = ScoreInputs.read_hidden(kept.folder)
    loaded = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float32).eval()
    left: list[torch.Tensor] = []
    layers = loaded.model.layers
    layers[2 * len(layers) // 3].register_forward_hook(lambda *each: left.append(each[-1]))
    for row, state in zip(keeping.rows, states, strict=True):
        with torch.inference_mode():
            loaded(torch.tensor([row.prompt_ids]))
        expected = left.pop()[0, -1].numpy()
        assert state.dtype == np.float16
        # Half precision has eleven bits.
        assert state.astype(np.float32) == pytest.approx(expected, rel=2e-3, abs=2e-3)

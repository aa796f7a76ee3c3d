"""A follow-up goes through the packed scoring, and reads what a plain forward pass reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from caft.models.config import Architecture
from caft.models.student import Student
from caft.records import Question
from caft.score.config import ModelScoreConfig
from caft.score.stage import ScoreInputs
from caft.store import StageKind, Store
from caft.text.config import PromptConfig, PromptStyle
from caft.text.follow_up import FOLLOW_UPS, follow_up_questions, follow_up_shots, read_follow_up
from caft.text.prompts import Wanted, write_prompt
from caft.trainers.config import TrainerConfig

pytestmark = pytest.mark.numerics

PROMPT = PromptConfig(style=PromptStyle.completion)
QUESTIONS = [
    Question(id=f"q{n}", text=f"What is {n} + 3?", answer_set=tuple("0123456789"), gold_index=n + 3)
    for n in range(5)
]
SHOTS = [Question(id=f"s{n}", text=f"{n} + 1?", options=("1", "2"), gold_index=n) for n in (0, 1)]


@pytest.mark.parametrize(("kind", "labels"), [("p_true", "AB"), ("verbalized", "0123456789")])
def test_the_estimate_is_that_of_a_plain_forward_pass(
    tiny_student: Callable[..., Student], tmp_path: Path, kind: str, labels: str
) -> None:
    student = tiny_student(architecture=Architecture.phi3)
    asked = follow_up_questions(kind, QUESTIONS, {q.id: q.id[1:] for q in QUESTIONS}, PROMPT)
    inputs = ScoreInputs(
        student=student,
        questions=asked,
        shots=follow_up_shots(kind, SHOTS, PROMPT),
        prompt=FOLLOW_UPS[kind].word(PROMPT),
        trainer=TrainerConfig(accelerator="cpu", progress=False),
        config=ModelScoreConfig(),
        kind=StageKind[kind],
    )
    rows = inputs.read(Store(tmp_path / "store").obtain(inputs).folder)
    plain = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float32).double()
    for question, row in zip(asked, rows, strict=True):
        text = write_prompt(
            question, inputs.prompt, Wanted.answer, chat=False, shots=inputs.shots
        ).text
        ids = student.tokenizer([f"{text} {label}" for label in labels]).input_ids
        with torch.inference_mode():
            p = plain(torch.tensor([ids[0][:-1]])).logits[0, -1].softmax(-1)
        expected = torch.stack([p[each[-1]] for each in ids])
        worth = torch.tensor(FOLLOW_UPS[kind].worth, dtype=torch.float64)
        value = float((expected * worth).sum() / expected.sum())
        assert read_follow_up(kind, row.option_probabilities) == pytest.approx(value, abs=1e-5)

"""The real protocol: `transformers serve` with SmolLM2 on loopback writes the rationales."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.models.config import EmbeddedModelConfig
from caft.models.sources.locate import locate_model
from caft.teachers.ask import ask_all
from caft.teachers.replies import Request
from served_model import serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def make_row(number: int) -> dict[str, Any]:
    """A question whose right answer has another place each time, as the data check asks for."""
    options = [number, number + 5, number - 3, number + 1]
    turned = [*options[number % 4 :], *options[: number % 4]]
    return {
        "question": f"Which of these numbers is the largest, in round {number}?",
        "options": [str(option) for option in turned],
        "answer": "ABCD"[turned.index(number + 5)],
    }


ROWS = [make_row(number) for number in range(10, 40)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    try:
        model = locate_model(EmbeddedModelConfig(name="smollm2", id="smollm2"))
    except UserError as error:
        pytest.skip(f"the embedded model is not here: {error}")
    with serve(model, tmp_path_factory.mktemp("hub")) as address:
        yield address, model


def test_complexity_aware_tuning_on_a_served_teacher(
    served: tuple[str, Path], workshop: Any, tmp_path: Path
) -> None:
    address, model = served
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    words = [
        "model=tiny", "model.architecture=qwen2", "model.dtype=float32",
        "dataset=local", f"dataset.train_path={rows}", "dataset.train=16",
        "dataset.validation=4", "dataset.test=8", "dataset.max_new_tokens=8",
        "teacher=transformers_serve", f"teacher.base_url={address}", f"teacher.model={model}",
        "teacher.keep=all", "teacher.max_tokens=96",
    ]  # fmt: skip
    run = workshop.run(*words)
    assert run.status == 0, run.err
    asked = run.summary["split"]["counts"]["hard"]
    cost = run.summary["cost"]
    assert cost["teacher_calls"] == asked
    assert cost["teacher_completion_tokens"] > 0
    assert cost["unique_rationale_tokens"] > 0
    assert {row["source"] for row in run.rows("rationales")} != {"worked"}
    again = workshop.run(*words)
    assert "distill" in again.cached


def test_a_refused_reply_asked_for_again_is_drawn_anew(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    address, model = served
    words = [f"teacher.base_url={address}", f"teacher.model={model}", "teacher.max_tokens=24"]
    teacher = compose(["teacher=transformers_serve", *words]).teacher
    turns = (("user", "Tell me about a cat, in one sentence."),)
    replies = ask_all([Request(turns, attempt) for attempt in range(4)], teacher, tmp_path / "l")
    assert all(reply.text for reply in replies)
    assert len({reply.text for reply in replies}) == 4

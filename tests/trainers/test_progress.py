"""A bar moves inside a pass, never goes back, and counts what is finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

from caft.models.config import Architecture, TinyModelConfig
from caft.models.reply_rules import ReplyRules
from caft.models.sources.tiny import make_config
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.records import Question
from caft.score.module import ScoringModule, plan_scoring
from caft.score.prepare import prepare_rows
from caft.text.config import PromptConfig
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.progress import Moved, Pace, StageBar
from caft.trainers.replies import ReplyModule, ReplyName

LAYERS = 4


def make_student() -> tuple[Any, Any]:
    tokenizer = make_tokenizer(Architecture.llama)
    torch.manual_seed(4)
    config = make_config(TinyModelConfig(name="t", id="t", layers=LAYERS), tokenizer)
    return AutoModelForCausalLM.from_config(config).float().eval(), tokenizer


def test_a_bar_never_goes_back_and_counts_what_is_finished() -> None:
    bar = Progress(disable=True)
    line = StageBar(bar, "chains", 10)
    (task,) = bar.tasks
    line.show(Moved(2, 1.5, "31 tok/s"))
    assert (task.completed, task.fields["done"], task.description) == (3.5, 2, "chains, 31 tok/s")
    line.show(Moved(3, 0.25))
    assert (task.completed, task.fields["done"], task.description) == (3.5, 3, "chains")
    line.show(Moved(10))
    assert task.finished


def test_what_is_finished_is_always_told() -> None:
    told: list[Moved] = []
    pace = Pace(told.append)
    for _ in range(3):
        pace.finish(2)
    pace.work(0.5, "validating", at_once=True)
    assert told == [Moved(2), Moved(4), Moved(6), Moved(6, 0.5, "validating")]


def test_one_pass_of_scoring_moves_the_bar_layer_by_layer(tmp_path: Path) -> None:
    model, tokenizer = make_student()
    questions = [
        Question(id=f"q{n}", text=f"{n} + 3?", options=("3", "4"), gold_index=0) for n in range(6)
    ]
    rows = prepare_rows(questions, PromptConfig(), tokenizer, [])
    prefix_ids, packs = plan_scoring(rows, 4096)
    assert len(packs) == 1
    module = ScoringModule(model, prefix_ids)
    moved: list[float] = []
    module.moved = moved.append
    trainer = build_trainer(TrainerConfig(accelerator="cpu", progress=False), folder=tmp_path)
    with module.watching():
        trainer.predict(module, DataLoader(packs, batch_size=None), return_predictions=False)
    shares = [6 * layer / LAYERS for layer in range(1, LAYERS + 1)]
    # The prefix that all prompts share has a pass of its own before it.
    assert moved[-LAYERS:] == shares
    assert len(moved) <= 2 * LAYERS
    moved.clear()
    model(input_ids=torch.tensor([rows[0].prompt_ids]))
    assert not moved


def test_replies_in_work_count_by_the_length_of_those_that_ended() -> None:
    model, tokenizer = make_student()
    rules = ReplyRules(max_new_tokens=8, end_ids=(), stop_after_marker=False, stop_after_line=False)
    module = ReplyModule(model, tokenizer, rules, rows=2)
    moved: list[float] = []
    module.moved = lambda in_work, _note: moved.append(in_work)
    prompts = {ReplyName(name): tuple(tokenizer(name).input_ids) for name in ("a b", "b c", "c d")}
    assert len(list(module.write(prompts))) == 3
    # No reply has an end: two grow to 8 tokens at once, then the third one.
    assert moved[:3] == [2 / 8, 4 / 8, 6 / 8]
    assert moved[7:10] == [2.0, 2 + 1 / 8, 2 + 2 / 8]
    assert moved[-1] == 3.0
    assert moved == sorted(moved)

"""A stage from training pairs to weights on a tiny model: kept, repeatable, stackable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.models.config import TinyModelConfig
from caft.models.reply_rules import ReplyRules
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.records import Question, Target
from caft.store import Store
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.tune.config import Adapter, LoraConfig, Loss, Overlong, Schedule, TuningConfig
from caft.tune.examples import TrainingPair
from caft.tune.stage import TuneInputs, Validation, _validation_set, read_tuned

THINKS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>\n{% endif %}"
    "{% endif %}"
)
QUIET = TrainerConfig(accelerator="cpu", progress=False)


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Student:
    cache = str(tmp_path_factory.mktemp("models"))
    config = TinyModelConfig(name="tiny", id="tiny", cache=cache)
    return Student(config, locate_model(config), "cpu")


def pairs() -> list[TrainingPair]:
    answers = [
        Question(id=f"a{n}", text=f"Pick {n}", options=("red", "blue"), gold_index=n % 2)
        for n in range(5)
    ]
    hard = Question(id="h", text="Pick well", options=("red", "blue"), gold_index=1)
    return [
        *(TrainingPair(question, Target.answer, "easy") for question in answers),
        TrainingPair(hard, Target.rationale, "hard", "Step by step: [[B]]"),
    ]


@pytest.fixture
def work(student) -> Callable[..., TuneInputs]:
    def describe(**dials: Any) -> TuneInputs:
        config = TuningConfig(
            **{
                "batch_size": 4,
                "schedule": Schedule.constant,
                "lora": LoraConfig(dropout=0.1),
                **dials,
            }
        )
        return TuneInputs(student, pairs(), 2, PromptConfig(), config, seed=5, trainer=QUIET)

    return describe


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def train(work: TuneInputs, store: Path) -> Any:
    return Store(store).obtain(work)


def test_numbers_say_what_was_trained(work, tmp_path):
    artifact = train(work(), tmp_path)
    numbers = TuneInputs.read(artifact.folder)
    assert (numbers.examples, numbers.dropped, numbers.epochs) == (6, [], 2)
    # An answer row trains its option and the end of the turn.
    (rationale,) = numbers.rationale_tokens.values()
    assert numbers.trained_tokens == 2 * (5 * 2 + rationale)
    assert numbers.trained_rationale_tokens == 2 * rationale
    assert rationale > 2
    assert 0 < numbers.trainable_parameters < numbers.parameters
    assert [row["step"] for row in numbers.curve] == [1, 2, 3, 4]


def test_each_kind_of_text_is_counted_and_a_row_with_reasoning_is_another_stage(work, tmp_path):
    question, template = pairs()[-1].question, THINKS
    student = work().student
    thinking = TrainingPair(question, Target.thinking, "hard", "So [[B]]", "Hm.")
    short = TrainingPair(question, Target.short_rationale, "middle", "So [[B]]")
    rows = [TrainingPair(question, Target.rationale, "hard", "So [[B]]"), short, thinking]
    usual, student.tokenizer.chat_template = student.tokenizer.chat_template, template
    try:
        stages = [replace(work(), pairs=[row], epochs=1) for row in rows]
        numbers = [TuneInputs.read(train(stage, tmp_path).folder) for stage in stages]
    finally:
        student.tokenizer.chat_template = usual
    names = [name for each in numbers for name in each.rationale_tokens]
    assert names == ["h", "short_rationale of h", "thinking of h"]
    tokens = [each.trained_tokens for each in numbers]
    assert tokens[0] == tokens[1] < tokens[2]
    other = replace(stages[2], pairs=[replace(thinking, reasoning="Well.")])
    assert other.key["pairs"] != stages[2].key["pairs"]


def test_same_seed_same_weights_to_the_bit_and_the_store_asks_once(work, tmp_path):
    torch.manual_seed(1)
    first = train(work(), tmp_path / "one")
    torch.manual_seed(2)
    second = train(work(), tmp_path / "two")
    other = train(replace(work(), seed=6), tmp_path / "two")
    assert first.fingerprint == second.fingerprint != other.fingerprint
    weights, again, moved = (weights_in(a.folder / "adapter") for a in (first, second, other))
    assert weights
    assert all(weights[name].equal(again[name]) for name in weights)
    assert any(not weights[name].equal(moved[name]) for name in weights)
    assert train(work(), tmp_path / "one").cached
    assert Store(tmp_path / "one").find(work()) is not None


def test_between_epochs_replies_end_by_the_rules_of_evaluation(work):
    tuning, student = work(), work().student
    asked = [(pairs()[-1].question, Target.thinking)]
    validation = Validation(asked, 31, max_thinking_tokens=32, free_answer_tokens=7)
    usual, student.tokenizer.chat_template = student.tokenizer.chat_template, THINKS
    try:
        rules = _validation_set(replace(tuning, validation=validation))
        both = _validation_set(
            replace(tuning, validation=replace(validation, max_thinking_tokens=None))
        )
        ends = student.end_ids(chat=True)
    finally:
        student.tokenizer.chat_template = usual
    # The span has tokens of its own, and those that close it; without a cap both share 31.
    closing = len(rules.written.thinking.closing_ids)
    assert rules.written.most_tokens == 31 + 32 + closing > 31 + 32
    assert both.written.most_tokens == 31
    assert rules.bare == ReplyRules(
        max_new_tokens=7, end_ids=ends, stop_after_marker=False, stop_after_line=True
    )
    assert (rules.written.stop_after_marker, rules.written.end_ids) == (True, ends)


def test_no_key_has_origin_or_solution_and_only_that_of_validation_the_grader(work):
    def key(validate=True, **change):
        tuning = work(validate=validate)
        changed = [replace(each, question=replace(each.question, **change)) for each in pairs()]
        validation = Validation([(each.question, each.target) for each in changed])
        return replace(tuning, pairs=changed, validation=validation).key

    assert key() == key(origin="other.parquet:7") == key(rationale="3 + 4 = 7")
    assert key()["pairs"] != key(text="Pick")["pairs"]
    assert key()["validation"] != key(text="Pick")["validation"]
    assert key(validate=False) == key(validate=False, grader="math_verify 0.9.0")
    assert key()["validation"] != key(grader="math_verify 0.9.0")["validation"]


def test_a_loss_is_in_the_key_and_the_usual_one_leaves_it_as_it_was(work):
    keys = [work(loss=loss).key["config"] for loss in Loss]
    assert [key.get("loss") for key in keys] == [None, Loss.dft, Loss.eaft]


def test_a_second_stage_goes_on_from_the_first_and_keeps_the_adapter_small(work, tmp_path):
    first = train(work(), tmp_path)
    tuned = read_tuned(work().student, first)
    second = train(replace(work(), student=tuned), tmp_path)
    assert second.fingerprint != first.fingerprint
    before, after = (weights_in(a.folder / "adapter") for a in (first, second))
    assert set(before) == set(after)
    assert all("lora_" in name for name in after)
    assert all(not before[name].equal(after[name]) for name in after)
    # The second stage's first loss is the tuned model's, not a fresh adapter's.
    curves = [TuneInputs.read(artifact.folder).curve for artifact in (first, second)]
    assert curves[1][0]["loss"] < curves[0][0]["loss"]


@pytest.mark.parametrize("adapter", [Adapter.lora, Adapter.full])
def test_weights_load_again_and_answer_otherwise_than_the_base_model(work, tmp_path, adapter):
    tuning = work(adapter=adapter)
    artifact = train(tuning, tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        base = tuning.student.load()(input_ids=ids).logits
        tuned = read_tuned(tuning.student, artifact).load()(input_ids=ids).logits
    assert not torch.allclose(base, tuned, atol=1e-3)


def test_dropped_rows_are_named_and_not_counted(work, tmp_path):
    tuning = work(max_length=500, overlong=Overlong.drop)
    pair = tuning.pairs[0]
    long = replace(pair, question=replace(pair.question, id="long", text="word " * 600))
    artifact = train(replace(tuning, pairs=[long, *tuning.pairs]), tmp_path)
    numbers = TuneInputs.read(artifact.folder)
    assert (numbers.examples, numbers.dropped) == (6, ["long"])
    assert len(numbers.curve) == 4

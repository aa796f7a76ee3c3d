"""What the card says of prompt, adapter and data is what training rendered, saved and read."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caft.data.config import ArithmeticConfig, DatasetConfig, HubConfig
from caft.models.config import TinyModelConfig
from caft.models.encoding import render_prompt
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.pipeline.delivery import deliver, describe_recipe
from caft.records import Question, Target
from caft.report.run.model_card import Recipe
from caft.store import Artifact
from caft.store.checksums import sum_file
from caft.text.config import PromptConfig, PromptStyle
from caft.text.prompts import Wanted, write_prompt
from caft.tune.config import Adapter, AnswerTarget, MethodConfig, StageConfig, TuningConfig

QUESTION = Question(
    id="q", text="A secret of ours?", options=("yes", "no", "maybe"), gold_index=1, subject="law"
)
FORM = Question(
    id="q",
    text="{question}",
    options=("{option 1}", "{option 2}", "{option 3}"),
    gold_index=1,
    subject="{subject}",
)
TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"
    "{{ date_string }}{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
)
ALL = {
    "easy": Target.answer,
    "middle": Target.short_rationale,
    "hard": Target.rationale,
    "hardest": Target.thinking,
}


@pytest.fixture
def student(tmp_path: Path) -> Student:
    config = TinyModelConfig(name="tiny", id="tiny", cache=str(tmp_path))
    student = Student(config, locate_model(config), "cpu")
    student.tokenizer.chat_template = TEMPLATE
    folder = tmp_path / "tuned"
    folder.mkdir()
    return student.after_tuning(folder, "abc")


def save_shape(student: Student, **told: Any) -> None:
    assert student.tuned is not None
    (student.tuned / "adapter_config.json").write_text(json.dumps(told))


def describe(
    student: Student, tuning: TuningConfig | None = None, dataset: DatasetConfig | None = None
) -> Recipe:
    config: Any = SimpleNamespace(
        model=student.config,
        dataset=dataset or ArithmeticConfig(name="arithmetic"),
        method=MethodConfig(name="mixed", stages=[StageConfig(targets=ALL)]),
        tuning=tuning or TuningConfig(),
    )
    return describe_recipe(config, student, QUESTION)


def test_prompts_are_those_that_training_renders_without_a_word_of_the_data(
    student: Student,
) -> None:
    recipe = describe(student, TuningConfig(answer_target=AnswerTarget.bracketed))
    rendered = {
        name: render_prompt(
            write_prompt(FORM, PromptConfig(), wanted, chat=True),
            student.tokenizer,
            thinking=name == "thinking",
        )
        for name, wanted in (
            ("bracketed", Wanted.bracketed),
            ("rationale", Wanted.rationale),
            ("thinking", Wanted.rationale),
        )
    }
    assert rendered["thinking"].endswith("<think>") > rendered["rationale"].endswith("<think>")
    assert dict(recipe.prompts) == rendered
    assert "<user>{question}\n\nA. {option 1}\nB. {option 2}" in rendered["rationale"]
    assert "questions about {subject}" in rendered["rationale"]
    assert "secret" not in str(recipe)


def test_the_switches_are_those_that_the_template_was_given(student: Student) -> None:
    recipe = describe(student)
    switches = dict(recipe.template_switches or {})
    assert switches["enable_thinking"] is False
    # Whoever passes them on gets the very text that training read.
    asked = write_prompt(FORM, PromptConfig(), Wanted.answer, chat=True)
    turns = [{"role": turn.role, "content": turn.content} for turn in asked.messages]
    served = student.tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, **switches
    )
    assert served == recipe.prompts["answer"]
    assert switches["date_string"] in served


def test_without_a_chat_template_there_are_no_switches(student: Student) -> None:
    plain = ArithmeticConfig(name="a", prompt=PromptConfig(style=PromptStyle.completion))
    recipe = describe(student, dataset=plain)
    assert recipe.template_switches is None
    assert recipe.prompts["answer"].startswith("Question: {question}\nA. {option 1}")


def test_the_shape_is_the_adapters_own(student: Student) -> None:
    save_shape(student, peft_type="LORA", r=4, lora_alpha=9, use_dora=True, use_rslora=False)
    recipe = describe(student, TuningConfig(start_from="elsewhere"))
    assert (recipe.kinds, recipe.rank, recipe.alpha) == (("lora", "dora"), 4, 9)
    assert recipe.continues
    recipe = describe(student, TuningConfig(adapter=Adapter.qlora))
    assert recipe.kinds == ("qlora", "dora")
    assert not recipe.continues


def test_an_adapter_that_is_no_lora_is_named_as_what_it_is(student: Student) -> None:
    save_shape(student, peft_type="IA3")
    recipe = describe(student, TuningConfig(start_from="elsewhere"))
    assert (recipe.kinds, recipe.rank, recipe.alpha) == (("ia3",), None, None)


def test_full_weights_have_no_shape(student: Student) -> None:
    recipe = describe(student, TuningConfig(adapter=Adapter.full))
    assert (recipe.kinds, recipe.rank, recipe.alpha) == (("full",), None, None)


def test_a_revision_is_claimed_of_the_hubs_data_only(student: Student) -> None:
    hub = partial(HubConfig, name="any", id="TIGER-Lab/MMLU-Pro", revision="b189")
    told = describe(student, dataset=hub())
    assert (told.dataset_id, told.dataset_revision) == ("TIGER-Lab/MMLU-Pro", "b189")
    for dataset in (hub(path="a/copy"), ArithmeticConfig(name="a")):
        told = describe(student, dataset=dataset)
        assert (told.dataset_id, told.dataset_revision) == (None, None)


def test_weights_of_another_form_do_not_stay_beside_those_that_are_delivered(
    student: Student, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    made, folder = tmp_path / "adapter/model.safetensors", tmp_path / "run"
    made.write_bytes(b"all weights")
    files = {"adapter/model.safetensors": sum_file(made)}
    artifact = Artifact("tune", "f", tmp_path, False, 1.0, 2, files)
    (folder / "adapter").mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "mine.txt"):
        (folder / "adapter" / name).touch()
    deliver(student, artifact, folder, lambda _: None, merge=False, chat=True)
    left = {path.name for path in (folder / "adapter").iterdir()}
    assert {"model.safetensors", "mine.txt", "adapter_model.safetensors.before"} <= left
    assert not {"adapter_config.json", "adapter_model.safetensors"} & left

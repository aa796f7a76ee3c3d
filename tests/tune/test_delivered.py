"""What is delivered ends its replies when others load it, by nothing but transformers and peft.

Every family's tiny model is made to be as ChatML models often are: turns end with a token of
their own, and generation config and tokenizer name the end of a text only.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caft.models.adapters import add_lora, save_tuned
from caft.models.config import Architecture, Dtype, HubModelConfig, TinyModelConfig
from caft.models.encoding import end_of_turn
from caft.models.serving import generation_settings, save_for_serving, tokenizer_that_ends
from caft.models.sources.locate import locate_model
from caft.models.sources.tiny_tokenizers import FAMILIES, make_tokenizer
from caft.models.student import Student
from caft.pipeline.delivery import deliver
from caft.records import Example, Question, Target
from caft.store import Store
from caft.text.config import PromptConfig
from caft.tune.config import AnswerTarget
from caft.tune.examples import TrainingPair, encode_pair
from caft.tune.stage import read_tuned
from small_stage import SmallStage

QUESTION = Question(id="q", text="Pick one", options=("red", "blue"), gold_index=1)


@dataclass(frozen=True)
class Delivered:
    """A folder with adapter/ and merged/, the base model, and a prompt whose reply is known."""

    folder: Path
    base: Path
    prompt_ids: tuple[int, ...]
    reply_ids: list[int]
    stop: str


def as_chatml(architecture: Architecture, folder: Path, cache: Path) -> HubModelConfig:
    tiny = TinyModelConfig(name="t", id="tiny", architecture=architecture, cache=str(cache))
    shutil.copytree(locate_model(tiny), folder)
    tokenizer = make_tokenizer(architecture)
    tokenizer.eos_token = FAMILIES[architecture].stop
    tokenizer.save_pretrained(folder)
    settings = {
        "eos_token_id": tokenizer.eos_token_id,
        "do_sample": False,
        "temperature": 0.6,
        "min_new_tokens": 4,
        "repetition_penalty": 1.0,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = tokenizer.eos_token_id
    (folder / "config.json").write_text(json.dumps(config))
    return HubModelConfig(name="t", id="a/b", path=str(folder), dtype=Dtype.float32)


@pytest.fixture(
    scope="module",
    params=[*((one, "lora") for one in Architecture), (Architecture.qwen2, "full")],
    ids=lambda value: f"{value[0].value}-{value[1]}",
)
def delivered(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    import torch

    architecture, kind = request.param
    folder = tmp_path_factory.mktemp("delivered")
    config = as_chatml(architecture, folder / "base", folder)
    student = Student(config, locate_model(config), "cpu")
    pair = TrainingPair(QUESTION, Target.answer, "easy")
    end = end_of_turn(student.tokenizer, chat=True)
    row = encode_pair(
        pair, PromptConfig(), AnswerTarget.bare, student.tokenizer, chat=True, end_id=end
    )

    def learn_by_heart(made: Path) -> None:
        model = learn(student, row, kind)
        save_tuned(model, made / "adapter", dtype=torch.float32, base=student.base)

    artifact = Store(folder / "store").obtain(SmallStage("tune", {}, learn_by_heart))
    tuned = read_tuned(student, artifact)
    deliver(tuned, artifact, folder, lambda weights: weights.name, merge=True, chat=True)
    assert student.tokenizer.convert_ids_to_tokens(end) == FAMILIES[architecture].end
    return Delivered(
        folder,
        folder / "base",
        row.prompt_ids,
        list(row.completion_ids),
        FAMILIES[architecture].stop,
    )


def learn(student: Student, row: Example, kind: str) -> Any:
    """A model that has learnt the one row by heart, end token included."""
    import torch

    model = student.load()
    if kind == "lora":
        model = add_lora(
            model, r=8, alpha=16, dropout=0.0, modules=(), use_dora=False, use_rslora=False
        )
    ids = torch.tensor([row.prompt_ids + row.completion_ids])
    start = len(row.prompt_ids)
    labels = torch.cat([torch.full((1, start), -100), ids[:, start:]], dim=1)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval()


def generate(model: Any, delivered: Delivered, **dials: Any) -> list[int]:
    import torch

    ids = torch.tensor([delivered.prompt_ids])
    reply = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, **dials)
    return reply[0, ids.shape[1] :].tolist()


def test_merged_ends_by_plain_generate(delivered: Delivered) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(delivered.folder / "merged")
    assert generate(model, delivered) == delivered.reply_ids
    # The base model with its own settings runs on, so the reply's length says something.
    base = AutoModelForCausalLM.from_pretrained(delivered.base)
    assert model.generation_config.repetition_penalty == 1.0
    model.generation_config = base.generation_config
    assert len(generate(model, delivered)) > 2


def test_an_adapter_ends_by_the_settings_beside_it(delivered: Delivered) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    folder = delivered.folder / "adapter"
    if not (folder / "adapter_config.json").exists():  # full tuning: a model by itself
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert generate(model, delivered) == delivered.reply_ids
        return
    base = AutoModelForCausalLM.from_pretrained(delivered.base)
    model = PeftModel.from_pretrained(base, folder)
    settings = GenerationConfig.from_pretrained(folder)
    assert generate(model, delivered, generation_config=settings) == delivered.reply_ids
    end = AutoTokenizer.from_pretrained(folder).eos_token_id
    assert generate(model, delivered, eos_token_id=end, min_new_tokens=0) == delivered.reply_ids


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_tokenizer_and_settings_name_the_trained_end(delivered: Delivered, name: str) -> None:
    from transformers import AutoTokenizer

    folder, end = delivered.folder / name, delivered.reply_ids[-1]
    base = AutoTokenizer.from_pretrained(delivered.base)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token_id == end  # vLLM and others stop at it
    assert tokenizer.get_vocab() == base.get_vocab()
    assert tokenizer.chat_template == base.chat_template
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["eos_token_id"][0] == end
    assert tokenizer.convert_tokens_to_ids(delivered.stop) in settings["eos_token_id"]
    if name == "merged":
        config = json.loads((folder / "config.json").read_text())
        assert config["eos_token_id"] == settings["eos_token_id"]


# Settings


def test_settings_that_mean_something_are_kept() -> None:
    given = {"do_sample": True, "temperature": 0.7, "top_k": 20, "pad_token_id": 9}
    settings = generation_settings(given, [5, 2], 3)
    assert (settings.temperature, settings.top_k, settings.pad_token_id) == (0.7, 20, 9)
    assert settings.eos_token_id == [5, 2]
    assert generation_settings({}, [5], 3).pad_token_id == 3
    assert generation_settings({}, [5], 3).eos_token_id == 5


@pytest.mark.parametrize(
    "given",
    [
        {"do_sample": False, "temperature": 0.6, "top_p": 0.9},
        {"temperature": 0.6},
        {"num_return_sequences": 4},
        {"early_stopping": "perhaps"},
        {"suppress_tokens": [5, 6], "min_new_tokens": 30, "forced_eos_token_id": 7},
    ],
)
def test_settings_that_are_invalid_or_forbid_the_end_are_not(
    given: dict[str, Any], tmp_path: Path
) -> None:
    settings = generation_settings(given, [5, 2], None)
    settings.save_pretrained(tmp_path)  # refuses an invalid one
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written["eos_token_id"] == [5, 2]
    assert 5 not in (written.get("suppress_tokens") or [])
    assert written.get("min_new_tokens") == (0 if "min_new_tokens" in given else None)


def test_an_eos_that_the_template_writes_stays_what_it_is() -> None:
    tokenizer = make_tokenizer(Architecture.qwen2)
    tokenizer.eos_token = "<|endoftext|>"
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer_that_ends(tokenizer, end).eos_token == "<|im_end|>"
    assert tokenizer.eos_token == "<|endoftext|>"
    tokenizer.chat_template = tokenizer.chat_template + "{{ eos_token }}"
    assert tokenizer_that_ends(tokenizer, end).eos_token == "<|endoftext|>"


def test_a_completion_model_keeps_its_own_end(tmp_path: Path) -> None:
    tiny = TinyModelConfig(name="t", id="tiny", cache=str(tmp_path))
    student = Student(tiny, locate_model(tiny), "cpu")
    student.tokenizer.chat_template = None
    student.tokenizer.eos_token = "<|end_of_text|>"
    out = tmp_path / "out"
    out.mkdir()
    save_for_serving(student, out, chat=False)
    settings = json.loads((out / "generation_config.json").read_text())
    assert settings["eos_token_id"][0] == student.tokenizer.eos_token_id

"""Dtypes, devices and folders that look right and are not."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from caft.errors import UserError
from caft.models import load_model, load_tokenizer, locate_model, resolve_dtype
from caft.models.config import Architecture, Dtype, HubModelConfig, TinyModelConfig
from caft.models.encoding import end_of_turn
from caft.models.student import Student


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    return locate_model(
        TinyModelConfig(
            name="tiny", id="tiny", architecture=Architecture.llama, cache=str(cache), layers=1
        )
    )


def config_for(folder: Path, dtype: Dtype = Dtype.float32) -> HubModelConfig:
    return HubModelConfig(name="mine", id="a/b", path=str(folder), dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "expected"), [(Dtype.float32, torch.float32), (Dtype.bfloat16, torch.bfloat16)]
)
def test_weights_come_in_the_configs_dtype(
    llama: Path, dtype: Dtype, expected: torch.dtype
) -> None:
    model = load_model(llama, config_for(llama, dtype))
    assert {weight.dtype for weight in model.parameters()} == {expected}
    assert model.config._attn_implementation == "sdpa"


def test_auto_is_one_of_the_two_and_float32_where_nothing_is_known(tmp_path: Path) -> None:
    config = config_for(tmp_path, Dtype.auto)
    assert resolve_dtype(config, "cpu") in (torch.float32, torch.bfloat16)
    assert resolve_dtype(config, "meta") is torch.float32


def test_a_model_that_no_device_holds_is_the_users_to_change(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", refuse)
    with pytest.raises(UserError, match=r"does not fit into the memory of cpu; use model\.dtype"):
        load_model(llama, config_for(llama))


@pytest.mark.parametrize(("named", "more"), [(None, set()), (7, {7}), ([8, 7], {7, 8})])
def test_replies_end_where_the_generation_config_says_too(
    llama: Path, tmp_path: Path, named: object, more: set[int]
) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    student = Student(config_for(folder), folder, "cpu")
    own = {
        end_of_turn(student.tokenizer, chat=True),
        end_of_turn(student.tokenizer, chat=False),
    }
    assert set(student.end_ids(chat=True)) == own | more


def test_attention_can_be_chosen(llama: Path) -> None:
    model = load_model(llama, config_for(llama), attn_implementation="eager")
    assert model.config._attn_implementation == "eager"


def broken(llama: Path, folder: Path, name: str, text: str) -> HubModelConfig:
    shutil.copytree(llama, folder)
    (folder / name).write_text(text)
    return config_for(folder)


def test_a_model_type_that_nobody_knows(llama: Path, tmp_path: Path) -> None:
    text = json.dumps({"architectures": ["NewForCausalLM"], "model_type": "brand_new"})
    config = broken(llama, tmp_path / "model", "config.json", text)
    with pytest.raises(UserError, match=r"cannot be loaded: .*brand_new"):
        load_model(locate_model(config), config)


def test_weights_that_are_cut_off(llama: Path, tmp_path: Path) -> None:
    config = broken(llama, tmp_path / "model", "model.safetensors", "half")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(locate_model(config), config)


@pytest.mark.parametrize("text", ["{}", "{"])
def test_a_tokenizer_that_is_no_tokenizer(llama: Path, tmp_path: Path, text: str) -> None:
    config = broken(llama, tmp_path / "model", "tokenizer.json", text)
    with pytest.raises(UserError, match=r"the tokenizer in .* cannot be loaded"):
        load_tokenizer(locate_model(config), config)


@pytest.mark.parametrize(
    ("change", "how_many"), [({"intermediate_size": 96}, 3), ({"num_hidden_layers": 2}, 9)]
)
def test_weights_that_transformers_would_draw_at_random(
    llama: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: dict[str, int],
    how_many: int,
) -> None:
    values = {**json.loads((llama / "config.json").read_text()), **change}
    config = broken(llama, tmp_path / "model", "config.json", json.dumps(values))
    with pytest.raises(UserError, match=rf"lacks weights .*\({how_many}, such as model\.layers"):
        load_model(locate_model(config), config)
    assert "LOAD REPORT" not in capfd.readouterr().err

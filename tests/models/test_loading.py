"""Dtypes, devices and folders that look right and are not."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from caft.errors import UserError
from caft.models.config import (
    Architecture,
    Dtype,
    HubModelConfig,
    LocalTeacherModelConfig,
    TinyModelConfig,
)
from caft.models.encoding import end_of_turn
from caft.models.loading import load_model, load_tokenizer, quiet_transformers, resolve_dtype
from caft.models.sources.locate import locate_model
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


def test_a_tokenizer_of_an_unknown_kind_of_model_says_nothing_of_its_own(
    llama: Path, tmp_path: Path
) -> None:
    """One line is ours to say, of the model; transformers' own would stand before it."""
    folder = tmp_path / "weird"
    shutil.copytree(llama, folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "weird"}))
    said: list[logging.LogRecord] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = said.append  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(listener)
    try:
        load_tokenizer(folder, config_for(folder))
    finally:
        logging.getLogger("transformers").removeHandler(listener)
    assert not said


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


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 512}, 512),
        ({"text_config": {"max_position_embeddings": 512}}, 512),
        # As on the hub, where Gemma 3 with pictures leaves out what is the default.
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, 131_072),
        ({"model_type": "unheard_of", "text_config": {}}, None),
        ({}, None),
    ],
)
def test_the_context_of_a_model(tmp_path: Path, config: object, context: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Student(config_for(tmp_path), tmp_path, "cpu").context == context


def test_weights_are_counted_once_where_a_folder_has_them_twice(
    llama: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    loaded = sum(weight.numel() for weight in load_model(llama, config_for(llama)).parameters())
    assert Student(config_for(folder), folder, "cpu").parameters == loaded


def test_a_model_that_no_device_holds_is_the_users_to_change(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", refuse)
    with pytest.raises(UserError, match=r"does not fit into the memory of cpu; use model\.dtype"):
        load_model(llama, config_for(llama))
    with pytest.raises(UserError, match=r"memory of cpu; use a smaller teacher$"):
        load_model(llama, teacher_for(llama))


@pytest.mark.parametrize(
    ("named", "more"), [(None, set()), (7, {7}), ([8, 7], {7, 8}), (0, {0}), ([0], {0})]
)
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


def teacher_for(folder: Path) -> HubModelConfig:
    return LocalTeacherModelConfig(name="teacher", id="local", path=str(folder))


def broken(llama: Path, folder: Path, name: str, text: str) -> HubModelConfig:
    shutil.copytree(llama, folder)
    (folder / name).write_text(text)
    return config_for(folder)


def test_a_model_type_that_nobody_knows(llama: Path, tmp_path: Path) -> None:
    text = json.dumps({"architectures": ["NewForCausalLM"], "model_type": "brand_new"})
    config = broken(llama, tmp_path / "model", "config.json", text)
    with pytest.raises(UserError, match=r"cannot be loaded: .*brand_new.* model\.trust_remote"):
        load_model(locate_model(config), config)
    teacher = teacher_for(tmp_path / "model")
    with pytest.raises(UserError, match=r"; give another teacher\.path or teacher\.id$"):
        load_model(locate_model(teacher), teacher)


def reshaped(llama: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Any:
    from safetensors.torch import load_file, save_file

    shutil.copytree(llama, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return config_for(folder)


@pytest.mark.parametrize("name", ["v_head.weight", "model.layers.0.mlp.extra.weight"])
def test_weights_that_the_model_has_no_place_for(llama: Path, tmp_path: Path, name: str) -> None:
    config = reshaped(
        llama, tmp_path / "model", lambda weights: weights.update({name: torch.ones(2)})
    )
    with pytest.raises(UserError, match=rf"no place for \(1, such as {name}\)"):
        load_model(locate_model(config), config)


def test_buffers_that_old_checkpoints_hold_are_no_weights(llama: Path, tmp_path: Path) -> None:
    buffers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        "model.layers.0.attn.masked_bias": torch.ones(1),
    }
    config = reshaped(llama, tmp_path / "model", lambda weights: weights.update(buffers))
    assert load_model(locate_model(config), config) is not None


@pytest.mark.parametrize(
    ("added", "refused"),
    [
        ({"tokens": ["brand-new"]}, True),
        ({"special": ["<|unused|>"]}, False),  # as Gemma 3 (1B) has the image's
        ({"special": ["<|im_start|>"], "template": "<|im_start|>"}, True),
        ({"special": ["<|pad2|>"], "pad": "<|pad2|>"}, True),
    ],
)
def test_a_vocabulary_that_is_smaller_than_the_tokenizers(
    llama: Path, tmp_path: Path, added: dict[str, Any], refused: bool
) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(added.get("tokens", []))
    tokenizer.add_tokens([AddedToken(one, special=True) for one in added.get("special", [])])
    tokenizer.chat_template += added.get("template", "")
    if "pad" in added:
        tokenizer.pad_token = added["pad"]
    tokenizer.save_pretrained(folder)
    if not refused:
        assert len(load_tokenizer(folder, config_for(folder))) == len(tokenizer)
        return
    with pytest.raises(UserError, match=r"has 1 token beyond the model's vocabulary of"):
        load_tokenizer(folder, config_for(folder))


def test_a_tokenizer_is_read_once_for_all_jobs_and_again_where_a_file_changed(
    llama: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "pytorch_model.bin").symlink_to("nowhere")
    first = load_tokenizer(folder, config_for(folder))
    assert load_tokenizer(folder, config_for(folder)) is first
    changed = AutoTokenizer.from_pretrained(folder)
    changed.chat_template = "{{ messages[0].content }}"
    changed.save_pretrained(folder)
    assert load_tokenizer(folder, config_for(folder)).chat_template == changed.chat_template


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


def test_loading_and_saving_show_no_bars_and_others_do(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm import tqdm
    from tqdm.auto import tqdm as automatic

    with quiet_transformers():
        for bar in (tqdm, automatic):
            assert list(bar(range(3), desc="ours")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    assert list(tqdm(range(3), desc="others")) == [0, 1, 2]
    assert "others" in capsys.readouterr().err

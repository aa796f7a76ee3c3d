"""A model's folder is judged before any framework is loaded, in one line that says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.models import locate_model
from caft.models.config import HubModelConfig, ModelConfig, TinyModelConfig


def a_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def config_for(path: Path | str) -> ModelConfig:
    return HubModelConfig(name="mine", id="someone/some-model", path=str(path))


def refusal(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        locate_model(config_for(path))
    message = str(caught.value)
    assert "\n" not in message
    assert f"model.path={path}" in message
    return message


def test_a_whole_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    assert locate_model(config_for(folder)) == folder


def test_a_relative_path_becomes_absolute_since_runs_change_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_folder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert locate_model(config_for("model")) == folder


def test_a_path_goes_before_every_other_source(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    assert locate_model(TinyModelConfig(name="tiny", id="tiny", path=str(folder))) == folder


def test_missing_folder_and_file_in_its_place(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(tmp_path / "file")


def test_missing_config(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)
    (folder / "adapter_config.json").write_text("{}")
    assert "PEFT adapter" in refusal(folder)


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_config_that_is_no_object(tmp_path: Path, text: str) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize("architectures", [["BertForMaskedLM"], [], None])
def test_other_architectures(tmp_path: Path, architectures: list[str] | None) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"architectures": architectures}))
    assert "ForCausalLM" in refusal(folder)


def test_no_weights(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert "has no model.safetensors" in refusal(folder)


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle" in refusal(folder)


def test_shards_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model-1-of-2.safetensors")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 1 of 2 weight files" in refusal(folder)
    (folder / "model-2-of-2.safetensors").write_bytes(b"")
    assert locate_model(config_for(folder)) == folder


def test_no_tokenizer(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in refusal(folder)


def test_bad_folders_are_known_without_a_framework(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from caft.errors import UserError\n"
        "from caft.models import locate_model\n"
        "from caft.models.config import HubModelConfig\n"
        "try:\n"
        "    locate_model(HubModelConfig(name='m', id='a/b', path=sys.argv[1]))\n"
        "except UserError:\n"
        "    heavy = {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "    sys.exit(f'loaded {heavy}' if heavy else 0)\n"
        "sys.exit('not refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = TinyModelConfig(name="tiny", id="tiny", cache=str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"model\.cache or CAFT_CACHE"):
        locate_model(config)

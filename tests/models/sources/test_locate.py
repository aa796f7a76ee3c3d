"""A model's folder is judged before any framework is loaded, in one line that says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.models.config import HubModelConfig, ModelConfig, TinyModelConfig
from caft.models.sources.locate import locate_model


def a_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors("model.embed_tokens.weight"))
    return folder


def safetensors(*names: str) -> bytes:
    """A file of the format, with one byte a tensor."""
    header = {
        name: {"dtype": "U8", "shape": [1], "data_offsets": [place, place + 1]}
        for place, name in enumerate(names)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(len(names))


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


@pytest.mark.parametrize(
    ("name", "kind", "taken"),
    [
        ("Gemma3ForConditionalGeneration", "gemma3", True),
        ("Gemma4ForConditionalGeneration", "gemma4", True),
        ("Qwen3_5ForConditionalGeneration", "qwen3_5", True),  # its decoder alone is read
        ("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", False),
        ("T5ForConditionalGeneration", "t5", False),
        ("BartForConditionalGeneration", "bart", False),
        ("BertForMaskedLM", "bert", False),  # which may be a causal LM, but is none here
        ("SiglipVisionModel", "siglip_vision_model", False),
        ("OwnForConditionalGeneration", "unheard_of", False),
    ],
)
def test_models_of_text_and_pictures_that_transformers_reads_as_causal(
    tmp_path: Path, name: str, kind: str, taken: bool
) -> None:
    folder = a_folder(tmp_path / "model")
    config = {"architectures": [name], "model_type": kind, "text_config": {}}
    if kind in {"t5", "bart"}:
        config = {"architectures": [name], "model_type": kind, "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config))
    if taken:
        assert locate_model(config_for(folder)) == folder
    else:
        assert f"names {name} under architectures" in refusal(folder)


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
    (folder / "model-2-of-2.safetensors").write_bytes(safetensors("b"))
    assert locate_model(config_for(folder)) == folder


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "../other.safetensors", "/etc/other.safetensors", "a/b.safetensors",
     "a\\b.safetensors", "..", "", "model.safetensors.bin", 7],
)  # fmt: skip
def test_an_index_names_safetensors_beside_itself_only(tmp_path: Path, name: object) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (tmp_path / "other.safetensors").write_bytes(safetensors("b"))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    index = {"weight_map": {"a": "one.safetensors", "b": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"names {str(name)!r}; weights are taken from safetensors" in refusal(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["a"]}])
def test_an_index_that_names_nothing(tmp_path: Path, index: object) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 0 of 0 weight files" in refusal(folder)


@pytest.mark.parametrize("cut", [0, 4, 30, -1])
def test_weights_that_are_cut_are_known_by_their_header(tmp_path: Path, cut: int) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(safetensors("a", "b")[:cut])
    assert "is cut off or no safetensors file" in refusal(folder)


def test_fewer_layers_in_the_config_than_in_the_weights(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    names = [f"model.layers.{number}.mlp.up_proj.weight" for number in range(3)]
    # Neither a tower's layers, nor angles, nor heads for tokens further ahead are the decoder's.
    others = ["model.layers.9.self_attn.rotary_emb.inv_freq", "mtp.layers.0.x.weight",
              "model.vision_tower.encoder.layers.9.weight"]  # fmt: skip
    (folder / "model.safetensors").write_bytes(safetensors(*names, *others))
    told = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(told))
    assert locate_model(config_for(folder)) == folder
    (folder / "config.json").write_text(json.dumps({**told, "num_hidden_layers": 2}))
    assert "no place for (1, such as model.layers.2.mlp.up_proj.weight)" in refusal(folder)
    ahead = {**told, "num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(ahead))
    assert locate_model(config_for(folder)) == folder


def test_a_generation_config_that_is_no_json(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "generation_config.json").write_text("{")
    assert "generation_config.json that is not JSON" in refusal(folder)


def test_no_tokenizer(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in refusal(folder)


def test_bad_folders_are_known_without_a_framework(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from caft.errors import UserError\n"
        "from caft.models.sources.locate import locate_model\n"
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

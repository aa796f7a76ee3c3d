"""The fingerprint follows what a model would answer, and nothing else."""

import json
from pathlib import Path

import pytest

from caft.models.config import Dtype, HubModelConfig
from caft.models.fingerprint import model_fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        (tmp_path / name).write_text(name)
    return tmp_path


def local(folder: Path, **changes: bool) -> HubModelConfig:
    return HubModelConfig(name="mine", id="a/b", path=str(folder), **changes)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"]
)
def test_contents_change_it(folder: Path, name: str) -> None:
    before = model_fingerprint(folder, local(folder))
    (folder / name).write_text("other")
    assert model_fingerprint(folder, local(folder)) != before


@pytest.mark.parametrize(
    "name", ["model-00001-of-00001.safetensors", "pytorch_model-1.safetensors"]
)
def test_weights_count_under_whatever_name_the_index_gives_them(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    before = model_fingerprint(folder, local(folder))
    (folder / "consolidated.safetensors").write_text("which nothing reads")
    assert model_fingerprint(folder, local(folder)) == before
    (folder / name).write_text("trained again")
    assert model_fingerprint(folder, local(folder)) != before


def test_the_digest_of_a_usual_folder_stays_as_it_is_in_stores(folder: Path) -> None:
    assert model_fingerprint(folder, local(folder)) == "8852883c00a01de0"


def test_contents_that_move_between_files_change_it(folder: Path) -> None:
    before = model_fingerprint(folder, local(folder))
    (folder / "config.json").rename(folder / "swap")
    (folder / "tokenizer.json").rename(folder / "config.json")
    (folder / "swap").rename(folder / "tokenizer.json")
    assert model_fingerprint(folder, local(folder)) != before


def test_other_files_and_the_folders_place_do_not(folder: Path, tmp_path: Path) -> None:
    before = model_fingerprint(folder, local(folder))
    (folder / "README.md").write_text("words")
    (folder / "modeling.py").write_text("code that is not run")
    (folder / "tokenizer_old").mkdir()
    assert model_fingerprint(folder, local(folder)) == before
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        (elsewhere / path.name).write_bytes(path.read_bytes())
    assert model_fingerprint(elsewhere, local(elsewhere)) == before


def test_code_that_is_run_changes_it(folder: Path) -> None:
    before = model_fingerprint(folder, local(folder, trust_remote_code=True))
    (folder / "modeling.py").write_text("code that is run")
    assert model_fingerprint(folder, local(folder, trust_remote_code=True)) != before


def test_a_hub_model_is_its_id_and_commit(tmp_path: Path) -> None:
    config = HubModelConfig(name="m", id="a/b", revision="main", dtype=Dtype.bfloat16)
    here, there = tmp_path / "one" / "c0ffee", tmp_path / "two" / "c0ffee"
    expected = model_fingerprint(here, config)
    assert expected == model_fingerprint(there, config)
    assert expected != model_fingerprint(tmp_path / "deadbeef", config)
    other = HubModelConfig(name="m", id="a/c")
    assert expected != model_fingerprint(here, other)
    assert len(expected) == 16

"""What is kept of configs is what Hydra would have read and merged again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.hydra_bridge.composing import compose_overrides, start_hydra


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["model=phi3", "method=complexity_aware", "split=random"],
        ["experiment=small", "teacher=openai", "tuning.lora.r=3", "logger=wandb"],
        ["multirun_sweeps=allocation", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    ],
    ids=lambda words: words[0] if words else "default",
)
@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
def test_a_kept_config_is_the_one_that_hydra_composes(words: list[str], mode: RunMode) -> None:
    hydra = start_hydra(get_args_parser().parse_args([]))
    try:
        first = compose_overrides(hydra, "config", words, mode)
        first.tuning.learning_rate = 7
        kept = compose_overrides(hydra, "config", words, mode)
        hydra.config_loader = ConfigLoaderImpl(hydra.config_loader.config_search_path)
        own = compose_overrides(hydra, "config", words, mode)
    finally:
        GlobalHydra.instance().clear()
    assert OmegaConf.to_yaml(kept) == OmegaConf.to_yaml(own)
    assert kept._metadata.flags == own._metadata.flags
    assert kept.tuning._metadata.object_type is own.tuning._metadata.object_type


def test_a_file_that_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "caft" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for seed in (3, 4):
        file.write_text(f"# @package _global_\nseed: {seed}\n", encoding="utf-8")
        assert compose(["experiment=mine"]).seed == seed
    file.unlink()
    with pytest.raises(UserError, match="mine"):
        compose(["experiment=mine"])


def test_what_one_config_merged_stays_out_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "caft" / "experiment"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (folder / "mine.yaml").write_text("# @package _global_\nstore: {path: mine}\n", "utf-8")
    (folder / "plain.yaml").write_text("# @package _global_\nseed: 3\n", "utf-8")
    assert compose(["experiment=mine"]).store.path == "mine"
    assert compose(["experiment=plain"]).store.path == ".caft_store"

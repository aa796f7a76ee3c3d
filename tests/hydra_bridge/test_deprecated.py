"""Old words still work, wherever they stand, and one line says what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from packaging.version import Version

from caft.errors import UserError
from caft.hydra_bridge import compose, deprecated, read_run_config
from caft.hydra_bridge.composing import compose_overrides, start_hydra, without_hydra
from caft.hydra_bridge.deprecated import DEPRECATED, Deprecated
from caft.hydra_bridge.overrides import dial_types, type_overrides
from caft.run_config import RunConfig

OLD = {
    "tuning.step_size": Deprecated(instead="tuning.learning_rate", gone="9.0"),
    "tuning.low_rank": Deprecated(instead="tuning.lora", gone="9.0"),
    "tuning.schedule=steady": Deprecated(instead="tuning.schedule=constant", gone="9.0"),
    "trainer.strategy": Deprecated(why="trainer.devices decides alone", gone="9.0"),
}


@pytest.fixture(autouse=True)
def old_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecated, "DEPRECATED", OLD)
    monkeypatch.setattr(deprecated, "_told", set())


def check(config: RunConfig, errors: str) -> None:
    assert (config.tuning.learning_rate, config.tuning.lora.r) == (0.5, 3)
    assert config.tuning.schedule.name == "constant"
    lines = errors.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("; CAFT 9.0 will refuse it") for line in lines)


def test_old_words_of_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tuning.step_size=0.5", "tuning.low_rank.r=3", "tuning.schedule=steady"]
    config = compose([*words, "trainer.strategy=ddp", "+trainer.strategy=ddp"])
    errors = capsys.readouterr().err
    check(config, errors)
    assert errors.splitlines()[0] == (
        "deprecated: tuning.step_size is now tuning.learning_rate; CAFT 9.0 will refuse it"
    )
    assert "trainer.strategy has no effect: trainer.devices decides alone; leave it" in errors


@pytest.mark.parametrize("place", ["experiment", "tuning"])
def test_old_words_of_a_file(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "caft" / place
    folder.mkdir(parents=True)
    own = "{step_size: 0.5, low_rank: {r: 3}, schedule: steady}"
    text = f"# @package _global_\ntuning: {own}\ntrainer: {{strategy: ddp}}\n"
    if place == "tuning":
        text = f"defaults: [lora, _self_]\n{own[1:-1].replace(', ', chr(10))}\n"
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    more = [] if place == "experiment" else ["trainer.strategy=ddp"]
    config = compose([f"{place}=mine", *more])
    errors = capsys.readouterr().err
    check(config, errors)
    assert f"(in {place}/mine.yaml)" in errors


def test_old_words_of_a_run_that_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an earlier version wrote into a run's folder is exported by this one."""
    hydra = start_hydra(get_args_parser().parse_args([]))
    composed = without_hydra(compose_overrides(hydra, "config", ["model=tiny"], RunMode.RUN))
    GlobalHydra.instance().clear()
    table: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    tuning = table["tuning"]
    del tuning["learning_rate"], tuning["lora"]["r"]
    tuning |= {"step_size": 0.5, "low_rank": {"r": 3}, "schedule": "steady"}
    table["trainer"]["strategy"] = "ddp"
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(table), tmp_path / ".hydra/config.yaml")
    check(read_run_config(tmp_path), capsys.readouterr().err)


@pytest.mark.parametrize("kind", deprecated.FORMER_KINDS["dataset"])
def test_a_kind_that_became_an_option_of_another_is_to_be_composed_anew(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"dataset.kind={kind} is of an earlier version, .*; compose dataset={kind} anew$"
    saved = OmegaConf.create({"dataset": {"kind": kind, "name": kind, "path": None}})
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(saved, tmp_path / ".hydra/config.yaml")
    with pytest.raises(UserError, match=f"^the config of the run in .* cannot be read: {line}"):
        read_run_config(tmp_path)
    own = tmp_path / "caft/dataset/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f"defaults: [/schema/dataset/{kind}@_here_, _self_]\nkind: {kind}\nname: mine\n")
    monkeypatch.chdir(tmp_path)
    for words in (["dataset=mine"], [f"dataset.kind={kind}"]):
        with pytest.raises(UserError, match=f"^{line}"):
            compose(words)
    own.write_text(f"defaults: [/schema/dataset/{kind}@_here_, _self_]\nname: mine\n")
    with pytest.raises(
        UserError, match=rf"^no kind '{kind}' for .*_here_'; .* put '- {kind}' there$"
    ):
        compose(["dataset=mine"])
    own.write_text(f"defaults: [{kind}, _self_]\nname: mine\n")
    assert compose(["dataset=mine"]).dataset.name == "mine"
    with pytest.raises(UserError, match=f"^evaluation.also, old: {line}"):
        compose([f"evaluation.also=[{{kind: {kind}, name: old}}]"])
    assert compose([f"dataset={kind}"]).dataset.kind == "hub"


def test_values_of_a_sweep_and_words_that_only_begin_alike() -> None:
    assert type_overrides(["tuning.schedule=steady", "tuning.schedule=linear"]) == [
        "tuning.schedule=constant",
        "tuning.schedule=linear",
    ]
    assert type_overrides(["tuning.step_sizes=1", "~tuning.step_size"]) == [
        "tuning.step_sizes=1",
        "~tuning.learning_rate",
    ]
    with pytest.raises(UserError, match=r"there is no setting tuning.step_sizes"):
        compose(["tuning.step_sizes=1"])


def test_every_old_word_leads_to_a_setting_of_its_group_and_is_not_overdue() -> None:
    from importlib.metadata import version

    for old, change in DEPRECATED.items():
        assert Version(change.gone) > Version(version("caft")), f"{old} is to be removed now"
        assert bool(change.instead) is not bool(change.why)
        if change.instead:
            key = change.instead.partition("=")[0]
            assert any(name == key or name.startswith(f"{key}.") for name in dial_types())
            assert key.partition(".")[0] == old.partition(".")[0]
        if "=" not in old:
            assert old not in dial_types()


def test_a_run_of_before_the_first_release_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run of then has `split.invalid` in its config, and some have another removed value."""
    monkeypatch.setattr(deprecated, "DEPRECATED", DEPRECATED)
    words = ["model=tiny", "split.invalid=by_estimate", "evaluation.routed_by=tuned"]
    assert compose(words) == compose(["model=tiny", "evaluation.routed_by=validation"])
    with pytest.raises(UserError, match=r"there is no setting split\.invalid"):
        compose(["split.invalid=hardest"])

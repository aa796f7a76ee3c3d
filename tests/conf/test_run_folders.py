"""Where runs write: a folder of their own, never over a finished one."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from caft.hydra_bridge import sweep

FrontDoor = Callable[..., int]


def test_a_run_gets_a_folder_under_the_current_one(
    front_door: FrontDoor, started: list[Any], tmp_path: Path
) -> None:
    assert front_door("seed=7", "until=score") == 0
    config, context = started[0]
    assert config.seed == 7
    assert context.overrides == ("seed=7", "until=score")
    assert not context.sweep
    assert yaml.safe_load(context.config_yaml)["name"] == config.name
    assert context.folder.is_relative_to(tmp_path / "outputs")
    assert (context.folder / ".hydra" / "config.yaml").is_file()
    assert (context.folder / "run.log").is_file()


def test_two_runs_never_share_a_folder(front_door: FrontDoor, started: list[Any]) -> None:
    front_door()
    front_door()
    assert len({context.folder for _, context in started}) == 2


def test_jobs_of_a_sweep_sit_one_level_below_it(
    front_door: FrontDoor, started: list[Any], tmp_path: Path
) -> None:
    assert front_door("-m", "method=sft,distill", "store.path=/some/where", "seed=1,2") == 0
    folders = [context.folder for _, context in started]
    assert len(set(folders)) == 4
    assert len({folder.parent for folder in folders}) == 1
    assert folders[0].parents[1] == tmp_path / "outputs" / "multirun"
    # What all jobs share sets none apart.
    assert re.fullmatch(r"method,seed-\w{8}", folders[0].parent.name)
    assert re.fullmatch(r"method=sft,seed=1-\w{8}", folders[0].name)
    assert len({context.run_id for _, context in started}) == 4
    assert {context.sweep for _, context in started} == {folders[0].parent.name}
    assert {(config.method.name, config.seed) for config, _ in started} == {
        ("sft", 1),
        ("sft", 2),
        ("distill", 1),
        ("distill", 2),
    }


def test_a_written_sweep_runs_from_any_folder(front_door: FrontDoor, started: list[Any]) -> None:
    assert front_door("-m", "multirun_sweeps=distill_fraction") == 0
    assert [config.method.name for config, _ in started] == [
        "sft",
        *["complexity_aware"] * 3,
        "distill",
    ]
    shares = [config.split.quantiles[-1] for config, _ in started[1:4]]
    assert shares == [0.9, 0.75, 0.5]
    assert started[0][1].folder.name.startswith("method=sft-")
    assert started[0][1].folder.parent.name.startswith("distill_fraction-")


def test_the_command_line_wins_over_a_written_sweep(
    front_door: FrontDoor, started: list[Any]
) -> None:
    assert front_door("-m", "multirun_sweeps=methods", "method=base,reversed", "seed=1") == 0
    assert [config.method.name for config, _ in started] == ["base", "reversed"]


def test_a_finished_run_is_not_written_over(
    front_door: FrontDoor, started: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("done").mkdir()
    Path("done/summary.json").write_text("{}")
    assert front_door("hydra.run.dir=done") == 2
    assert "done holds a finished run" in capsys.readouterr().err
    assert [path.name for path in Path("done").iterdir()] == ["summary.json"]
    assert not started


def test_a_folder_whose_summary_was_cut_off_is_no_finished_run(
    front_door: FrontDoor, started: list[Any]
) -> None:
    Path("cut").mkdir()
    Path("cut/summary.json").write_text('{"run": ')
    assert front_door("hydra.run.dir=cut") == 0
    assert len(started) == 1


def test_ctrl_c_where_a_cluster_runs_the_jobs_stops_none_of_them(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "_launch", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    words = ("-m", "seed=1,2", "hydra.sweep.dir=sweep")
    assert front_door(*words, "hydra/launcher=submitit_slurm") == 130
    assert "jobs in the cluster's queue keep running" in capsys.readouterr().err
    # A job that the cluster starts again would find it and refuse to go on.
    assert not Path("sweep/.stopping").exists()
    assert front_door(*words) == 130
    assert "cluster" not in capsys.readouterr().err
    assert Path("sweep/.stopping").exists()


@pytest.mark.parametrize("words", [["hydra.run.dir=file/out"], ["-m", "hydra.sweep.dir=file/out"]])
def test_a_file_in_the_way_is_named(
    front_door: FrontDoor, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    Path("file").write_text("mine")
    assert front_door(*words) == 2
    line = capsys.readouterr().err
    assert "file/out cannot be made" in line
    assert line.count("\n") == 1
    assert Path("file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into read-only folders")
def test_a_read_only_folder_is_named(
    front_door: FrontDoor, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("locked").mkdir(mode=0o500)
    assert front_door("hydra.run.dir=locked/out") == 2
    assert "not writable" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(
    front_door: FrontDoor, capsys: pytest.CaptureFixture[str]
) -> None:
    # /proc passes every check of permissions and refuses all the same.
    if not Path("/proc/self").exists():
        pytest.skip("no /proc on this system")
    assert front_door("hydra.run.dir=/proc/caft") == 2
    assert "the output folder /proc/caft cannot be written: " in capsys.readouterr().err

"""Hydra's own settings, given wrong: one line that names them, exit 2, and nothing is written."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from caft.errors import UserError
from caft.hydra_bridge import main
from caft.hydra_bridge.composing import compose_overrides, start_hydra
from caft.hydra_bridge.jobs import FROZEN
from caft.hydra_bridge.run_log import check_logging
from caft.run_config import RunConfig, RunContext
from caft.sweeps.run_folders import mark_finished, refuse_bad_subfolder

LOG = "hydra.job_logging"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own, and with logging as it was."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def run(config: RunConfig, context: RunContext) -> int:
    raise AssertionError("nothing is to be run")


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the front door says to them on standard error, after it has ended with 2."""
    assert main(run, words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """A run's config with Hydra's own part, before anything is wrong with it."""
    try:
        hydra = start_hydra(get_args_parser().parse_args([]))
        return compose_overrides(hydra, "config", ["hydra.mode=RUN"], RunMode.RUN)
    finally:
        GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("word", "named"),
    [
        (f"{LOG}.root.level=NOPE", "Unknown level: 'NOPE'"),
        ("hydra.hydra_logging.root.level=NOPE", "Unknown level: 'NOPE'"),
        (f"{LOG}.root.handlers=[nope]", "'nope'"),
        (f"{LOG}.handlers.file.class=no.such.Class", "no.such.Class"),
        (f"{LOG}.handlers.file.formatter=nope", "'nope'"),
        (f"{LOG}.handlers.file.nope=1", "'nope'"),
        (f"{LOG}.formatters.dated.class=no.such.Class", "no.such.Class"),
        (f"{LOG}.handlers.file.filename=/no/such/folder/run.log", "/no/such/folder/run.log"),
        (f"{LOG}.version=7", "7"),
        ("hydra.verbose=3", "hydra.verbose names 3"),
        ("hydra.verbose=debugg", "hydra.verbose names 'debugg'"),
        ("hydra.verbose=[caft,nope]", "hydra.verbose names 'nope'"),
        ("hydra.verbose={caft: 1}", "hydra.verbose names {'caft': 1}"),
    ],
)
def test_wrong_logging_is_refused(
    composed: DictConfig, tmp_path: Path, word: str, named: str
) -> None:
    wrong = copy.deepcopy(composed)
    key, _, value = word.partition("=")
    OmegaConf.update(wrong, key, yaml.safe_load(value), merge=False, force_add=True)
    with pytest.raises(UserError) as refused:
        check_logging(wrong, tmp_path / "out")
    assert named in str(refused.value)
    assert key.split(".")[1] in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shows", [[], ["dry_run=true"], ["until=data"]])
@pytest.mark.parametrize("word", [f"+{LOG}.handlers.file.nope=1", "hydra.verbose={caft:1}"])
def test_wrong_logging_is_refused_before_a_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, word: str, shows: list[str]
) -> None:
    assert word.partition("=")[0].split(".")[1] in refuse(capsys, word, *shows)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["-m", "seed=1,2"]])
def test_a_dry_run_makes_no_log(tmp_path: Path, words: list[str]) -> None:
    elsewhere = f"{LOG}.handlers.file.filename={tmp_path}/run.log"
    assert main(lambda config, context: 0, [*words, elsewhere, "dry_run=true"]) == 0
    assert not list(tmp_path.iterdir())


def test_a_run_with_debug_lines_runs() -> None:
    """Hydra prints its own settings first, and takes them out of the config that it prints."""
    assert main(lambda config, context: 0, ["hydra.verbose=true", "hydra.run.dir=out"]) == 0


@pytest.mark.parametrize("shows", [[], ["dry_run=true"]])
@pytest.mark.parametrize("word", [f"{LOG}.root.level=NOPE", "hydra.verbose=3"])
def test_wrong_logging_is_refused_before_a_sweep(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, word: str, shows: list[str]
) -> None:
    line = refuse(capsys, "-m", "seed=1,2", word, *shows)
    assert word.partition("=")[0].split(".")[1] in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("word", "named"), [("n_jobs=0", "n_jobs == 0"), ("n_jobs=x", "x")])
def test_a_launcher_that_begins_no_job_is_the_users_to_correct(
    capsys: pytest.CaptureFixture[str], word: str, named: str
) -> None:
    words = ["-m", "seed=1,2", "hydra/launcher=joblib", f"hydra.launcher.{word}"]
    assert main(run, words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "hydra.launcher" in last
    assert named in last


@pytest.mark.parametrize("folder", ["", "' '", "/dev/null", "/dev/null/x"])
def test_a_bad_folder_of_a_run_is_refused(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    assert "hydra.run.dir" in refuse(capsys, f"hydra.run.dir={folder}")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hydra", "../x", "a/b", "/tmp/x", "x" * 256, "a$b", "'a'", " a"]
)
def test_a_jobs_folder_is_one_name(name: str) -> None:
    with pytest.raises(UserError, match=r"^hydra\.sweep\.subdir is "):
        refuse_bad_subfolder(name)


@pytest.mark.parametrize("word", ["", "'a$b'", "'\\'a'"])
def test_jobs_lie_right_below_their_sweep(capsys: pytest.CaptureFixture[str], word: str) -> None:
    line = refuse(capsys, "-m", "seed=1,2", f"hydra.sweep.subdir={word}")
    assert line.startswith("hydra.sweep.subdir is ")


def test_two_jobs_never_share_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    line = refuse(capsys, "-m", "seed=1,2", "hydra.sweep.subdir=same")
    assert "hydra.sweep.subdir gives the folder same to two different jobs" in line


def test_a_finished_job_of_another_config_is_not_taken_for_this_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job = tmp_path / "sweep" / "0"
    (job / ".hydra").mkdir(parents=True)
    (job / FROZEN).write_text(json.dumps({"digest": "of another config"}))
    (job / "summary.json").write_text("{}")
    mark_finished(job)
    words = ["-m", "seed=1,2", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}"]
    assert "holds a finished job of another config" in refuse(capsys, *words)


def test_a_sweep_never_writes_over_a_finished_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_text('{"run": {}}')
    assert "holds a finished run" in refuse(capsys, "-m", "seed=1,2", "hydra.sweep.dir=.")


@pytest.mark.parametrize("words", [["-sc"], ["-sc", "install=tcsh"]])
def test_completion_of_no_known_shell_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(run, words) == 2
    assert "give --shell-completion install=bash" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("max_batch_size=1", "there is no setting hydra.sweeper.max_batch_size"),
        ("params.seed=1", "+hydra.sweeper.params.seed="),
        ("params={seed:'1,2'}", "+hydra.sweeper.params.seed="),
        ("params=null", "hydra.sweeper.params: null"),
        ("cases=null", "hydra.sweeper.cases: null"),
    ],
)
def test_what_the_sweeper_does_not_take_is_refused(
    capsys: pytest.CaptureFixture[str], word: str, advice: str
) -> None:
    assert advice in refuse(capsys, "-m", "dry_run=true", f"hydra.sweeper.{word}")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("-m", "--cfg", "job", "seed=1,2"), "show one run: give one value a setting"),
        (("-m", "--info", "config", "seed=1,2"), "show one run: give one value a setting"),
        (("--cfg", "job", "--package", "nosuch"), "--package nosuch names nothing that --cfg job"),
        (("--cfg", "job", "--package", "hydra.run"), "--package hydra.run names nothing"),
    ],
)
def test_what_no_config_shows_is_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], advice: str
) -> None:
    assert advice in refuse(capsys, *words)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("-m", "--cfg", "job", "multirun_sweeps=methods"), "seed: 42"),
        (("--cfg", "hydra", "--resolve", "name=mine"), "subdir: name=mine-"),
        (("--cfg", "job", "--package", "_global_"), "seed: 42"),
        (("--cfg", "job", "--package", "dataset.train"), ""),
        (("--help", "hydra/help=default"), "\nsplit: entropy, entropy_threshold, "),
        (("--hydra-help",), "\nhydra/launcher: basic, "),
    ],
)
def test_a_config_is_shown(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], shown: str
) -> None:
    assert main(run, words) == 0
    out, err = capsys.readouterr()
    assert shown in out
    assert err == ""

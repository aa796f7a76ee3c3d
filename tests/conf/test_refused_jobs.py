"""A sweep reads what its jobs would read before the first one starts, which may take hours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.pipeline import preflight
from caft.run_config import RunContext

FrontDoor = Callable[..., int]
OWN = ("model=tiny", "teacher=worked", "dataset=text", "dataset.train_path=q.jsonl")
ARMS = "method=sft,distill"
ENDPOINT = (
    "teacher=openai",
    "teacher.model=m",
    "teacher.base_url=https://no.such.host/v1",
    "teacher.api_key_env=NO_KEY",
    "teacher.usd_per_million_prompt_tokens=1",
    "teacher.usd_per_million_completion_tokens=1",
)
REFUSED = {
    "no solution": ([ARMS], "teacher=worked needs worked solutions and the dataset has none"),
    "no file of texts": ([ARMS, "teacher=file", "teacher.path=no.jsonl"], "no.jsonl is not a file"),
    "no key": ([ARMS, *ENDPOINT], "NO_KEY"),
    "no second file": (["method=sft", "dataset.train_path=q.jsonl,no.jsonl"], "no.jsonl"),
}


@pytest.fixture(autouse=True)
def _questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of questions and answers, without solutions, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(60)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize(("given", "part"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_sweep_is_refused_by_what_its_later_jobs_would_refuse(
    front_door: FrontDoor,
    started: list[Any],
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    part: str,
) -> None:
    assert front_door("-m", *OWN, *given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("job ")
    assert part in err
    assert err.count("\n") == 1
    assert not started
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["method=distill", *ENDPOINT], "NO_KEY"),
        (["method=sft", "until=tune"], "there are none yet with until=tune; leave it out"),
    ],
)
def test_a_search_is_refused_by_what_every_trial_would_refuse(
    front_door: FrontDoor,
    started: list[Any],
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    part: str,
) -> None:
    assert front_door("-m", "multirun_sweeps=tune_lr", *OWN, *given) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert part in err
    assert not started
    assert not Path("outputs").exists()


def test_a_search_is_checked_beside_the_report_of_its_start_before(
    front_door: FrontDoor, started: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine").mkdir()
    Path("mine/summary.json").write_text('{"kind": "sweep"}')
    words = ("method=distill", *ENDPOINT, "hydra.sweep.dir=mine")
    assert front_door("-m", "multirun_sweeps=tune_lr", *OWN, *words) == 2
    assert "NO_KEY" in capsys.readouterr().err
    assert not started


@pytest.mark.parametrize("estimator", ["option_entropy_gain", "judge_steps"])
def test_a_key_that_only_an_estimator_needs_is_wanted_beforehand(
    estimator: str,
    front_door: FrontDoor,
    started: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge = [f"score.{each.replace('teacher', 'judge')}" for each in ENDPOINT[1:]]
    words = ["model=tiny", "dataset=arithmetic", "until=score", *ENDPOINT]
    more = judge if estimator == "judge_steps" else []
    arms = f"split.estimator=answer_entropy,{estimator}"
    assert front_door("-m", *words, *more, arms) == 2
    assert "NO_KEY" in capsys.readouterr().err
    assert not started


@pytest.mark.parametrize("words", [(), ("-m", "seed=1,2")])
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (("method=distill", *ENDPOINT), "NO_KEY"),
        (("method=sft", "tuning.start_from=no"), "no, which holds no adapter_config.json"),
    ],
)
def test_a_key_and_an_adapter_are_wanted_before_a_dataset_is_fetched(
    *,
    words: tuple[str, ...],
    asked: tuple[str, ...],
    part: str,
    front_door: FrontDoor,
    started: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(preflight, "load_graded", lambda *a, **_: read.append(a))
    given = ["model=tiny", "dataset=gsm8k", *asked]
    if words:
        assert front_door(*words, *given) == 2
        assert part in capsys.readouterr().err
    else:
        with pytest.raises(UserError, match=part):
            preflight.open_workspace(compose(given), RunContext(folder=Path("run")))
    assert not read
    assert not started


def test_jobs_of_one_dataset_read_it_once(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    load = preflight.load_graded
    monkeypatch.setattr(
        preflight, "load_graded", lambda *a, **given: read.append(a) or load(*a, **given)
    )
    assert front_door("-m", *OWN, "method=sft,base", "tuning.learning_rate=1e-3,1e-4") == 0
    assert len(read) == 1


def test_what_no_job_needs_refuses_no_sweep(front_door: FrontDoor, started: list[Any]) -> None:
    assert front_door("-m", *OWN, "method=sft,base") == 0
    assert len(started) == 2


def test_a_job_that_has_finished_is_not_read_again(
    front_door: FrontDoor, started: list[Any]
) -> None:
    words = ("-m", *OWN, "method=sft", "seed=1,2", "hydra.sweep.dir=sweep")
    assert front_door(*words) == 0
    for folder in Path("sweep").glob("seed=*"):
        (folder / "summary.json").write_text("{}")
    Path("q.jsonl").unlink()
    assert front_door(*words) == 0
    assert len(started) == 2

"""Which jobs a sweep has, and how devices are shared out; nothing is run."""

from __future__ import annotations

import json
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from caft.hydra_bridge.composing import (
    JOB_FOLDER,
    compose_overrides,
    read_question,
    start_hydra,
)
from caft.hydra_bridge.groups import OWN_CONFIGS, find_conf
from caft.hydra_bridge.jobs import count_devices
from caft.hydra_bridge.listing import JobOverrides, list_jobs, searches
from caft.hydra_bridge.overrides import type_overrides
from caft.hydra_bridge.sweep import check_jobs
from caft.sweeps import job_table
from caft.sweeps.devices import device_groups, own_devices
from caft.sweeps.job_table import Job, end, note_job, plan_jobs, read_job_table, worst_status
from caft.sweeps.stopping import JobError, stop_jobs

JOBS = {
    "methods": 9 * 3,
    "routing_control": 4 * 5,
    "entropy_thresholds": 5 + 3,
    "split_strategies": 7,
    "distill_fraction": 5,
    "epochs": 3 * 3,
    "models": 3,
    "allocation": 17 * 5,
    "bins": 6,
}


def compose_sweep(*words: str) -> DictConfig:
    try:
        hydra = start_hydra(get_args_parser().parse_args([]))
        return compose_overrides(hydra, "config", [*words, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    finally:
        GlobalHydra.instance().clear()


@cache
def planned(*words: str) -> tuple[str, list[JobOverrides]]:
    """A sweep's question, and its jobs unless it is a search."""
    try:
        hydra = start_hydra(get_args_parser().parse_args([]))
        overrides = [*type_overrides(words), "hydra.mode=MULTIRUN"]
        master = compose_overrides(hydra, "config", overrides, RunMode.MULTIRUN)
        listed = [] if searches(master) else list_jobs(hydra, master)
        return read_question(master.hydra.runtime), listed
    finally:
        GlobalHydra.instance().clear()


def jobs(*words: str) -> list[JobOverrides]:
    return planned(*words)[1]


def own(*words: str) -> list[tuple[str, ...]]:
    return [job.own for job in jobs(*words)]


def test_there_is_a_count_for_every_sweep() -> None:
    files = (find_conf().parent / "multirun_sweeps").glob("*.yaml")
    assert {file.stem for file in files} == {*JOBS, "tune_lr"}


@pytest.mark.parametrize("name", [*JOBS, "tune_lr"])
def test_a_sweeps_header_says_what_it_asks(name: str) -> None:
    question, _ = planned(f"multirun_sweeps={name}")
    assert "?" in question
    assert "#" not in question


def test_a_sweep_without_a_file_or_a_question_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_sweep("")
    assert read_question(compose_sweep("seed=1,2").hydra.runtime) == ""
    assert read_question(compose_sweep("multirun_sweeps=mine").hydra.runtime) == ""


def test_the_question_of_ones_own_sweep_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_sweep("# Question: does the\n# seed matter?\n# Axes: the seed.\n")
    runtime = compose_sweep("multirun_sweeps=mine").hydra.runtime
    assert read_question(runtime) == "does the seed matter?"


def write_own_sweep(header: str) -> None:
    file = Path(OWN_CONFIGS, "multirun_sweeps", "mine.yaml")
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package _global_\n{header}seed: 3\n")


def test_every_writer_of_the_job_table_keeps_the_question(tmp_path: Path) -> None:
    plan_jobs(tmp_path, [Job(folder="a"), Job(folder="b")], "Why?")
    (tmp_path / "a").mkdir()
    note_job(tmp_path / "a", Job(folder="a", state="running", host="elsewhere"))
    table = json.loads((tmp_path / "jobs.json").read_text())
    assert table["question"] == "Why?"
    assert [job["state"] for job in table["jobs"]] == ["running", "waiting"]


def test_the_table_is_read_without_the_files_of_jobs_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, state in (("a", "done"), ("b", "failed")):
        (tmp_path / name).mkdir()
        note_job(tmp_path / name, Job(folder=name, state=state))
    asked: list[str] = []
    monkeypatch.setattr(job_table, "is_finished", lambda folder: asked.append(folder.name))
    assert [job.state for job in read_job_table(tmp_path)] == ["done", "failed"]
    assert asked == ["b"]


@pytest.mark.parametrize("name", list(JOBS))
def test_a_sweep_has_as_many_jobs_as_its_header_says(name: str) -> None:
    listed = jobs(f"multirun_sweeps={name}")
    assert len({job.all for job in listed}) == len(listed) == JOBS[name]


LOCAL = ("dataset=local", "dataset.train_path=mine.csv")


def test_commas_of_a_list_are_no_axis_of_a_sweep_and_several_lists_are() -> None:
    dial = "dataset.columns.options"
    assert own(*LOCAL, f"{dial}=A,B,C", "seed=1,2") == [("seed=1",), ("seed=2",)]
    lists = [(f"{dial}=[A,B]",), (f"{dial}=[C,D]",)]
    assert own(*LOCAL, f"{dial}=[A,B],[C,D]") == lists
    assert own(*LOCAL, f"{dial}=choice([A,B],[C,D])") == lists
    assert own("score.estimators=choice(top1_margin,option_mass)") == [
        ("score.estimators=[top1_margin]",),
        ("score.estimators=[option_mass]",),
    ]


def test_a_job_tells_what_is_its_own_from_what_all_share() -> None:
    words = ["model=tiny", "method=sft,base", "seed=1"]
    try:
        hydra = start_hydra(get_args_parser().parse_args([]))
        overrides = [*words, "hydra.mode=MULTIRUN", "hydra.sweep.dir=sweep"]
        master = compose_overrides(hydra, "config", overrides, RunMode.MULTIRUN)
        found = [job for job, _ in check_jobs(hydra, master)]
        composed = [
            hydra.config_loader.load_sweep_config(master, job.shared + job.overrides)
            for job in found
        ]
        assert OmegaConf.to_container(master.hydra.sweep)["subdir"] == JOB_FOLDER
        # What Hydra's launchers would ask for, each of which builds the config again.
        assert [job.folder for job in found] == [each.hydra.sweep.subdir for each in composed]
    finally:
        GlobalHydra.instance().clear()
    assert [(job.overrides, job.shared) for job in found] == [
        (["method=sft"], ["model=tiny", "seed=1"]),
        (["method=base"], ["model=tiny", "seed=1"]),
    ]


def test_a_search_is_checked_with_a_value_of_each_axis_that_it_may_draw() -> None:
    axes = (
        "method=choice(sft,base)",
        "seed=range(3,9)",
        "name=b",
        "tuning.lora.r=int(interval(4,8))",
        "tuning.weight_decay=interval(0,0.5)",
        "tuning.learning_rate=interval(0,0.001)",
    )
    kept: dict[str, Any] = {}
    words = ["multirun_sweeps=tune_lr", *axes, "hydra.mode=MULTIRUN", "hydra.sweep.dir=sweep"]
    try:
        hydra = start_hydra(get_args_parser().parse_args([]))
        master = compose_overrides(hydra, "config", words, RunMode.MULTIRUN)
        assert not check_jobs(hydra, master, kept)
    finally:
        GlobalHydra.instance().clear()
    ((config, _),) = kept.values()
    assert (config.method.name, config.seed, config.name) == ("sft", 3, "b")
    # The end of an interval may be what is not allowed, as a rate of 0.
    tuning = config.tuning
    assert (tuning.lora.r, tuning.weight_decay, tuning.learning_rate) == (6, 0.25, 0.0005)


def paper_experiments() -> list[Any]:
    """One of them; the others, which are alike, among the slow tests."""
    names = sorted(file.stem for file in find_conf().glob("experiment/paper_*.yaml"))
    first = "paper_v2_qwen"
    assert first in names
    return [pytest.param(n, marks=() if n == first else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("experiment", paper_experiments())
@pytest.mark.parametrize("name", [*JOBS, "tune_lr"])
def test_every_job_of_every_sweep_composes_beside_the_papers_settings(
    name: str, experiment: str
) -> None:
    words = [f"multirun_sweeps={name}", f"experiment={experiment}", "seed=42"]
    try:
        hydra = start_hydra(get_args_parser().parse_args([]))
        overrides = [*words, "hydra.mode=MULTIRUN", "hydra.sweep.dir=sweep"]
        master = compose_overrides(hydra, "config", overrides, RunMode.MULTIRUN)
        listed = check_jobs(hydra, master)
    finally:
        GlobalHydra.instance().clear()
    # Jobs of the same config are one job: all of them differ.
    seeds = {"methods": 3, "routing_control": 5, "allocation": 5}.get(name, 1)
    assert len(listed) == (JOBS[name] // seeds if name in JOBS else 0)


def test_the_controls_arms_differ_in_routing_alone() -> None:
    arms = {job[:-1] for job in own("multirun_sweeps=routing_control")}
    assert arms == {
        ("method=complexity_aware", "split=entropy"),
        ("method=reversed", "split=entropy"),
        ("method=complexity_aware", "split=random", "split.match=calls"),
        ("method=complexity_aware", "split=random", "split.match=tokens"),
    }


def test_every_rule_of_the_allocation_has_a_control_at_its_budget() -> None:
    arms = {frozenset(job[:-1]) for job in own("multirun_sweeps=allocation")}
    rules = [arm for arm in arms if "split=random" not in arm]
    assert len(rules) == 7
    for rule in rules:
        control = (rule - {"split=entropy", "split=sampled"}) | {"split=random"}
        assert control | {"split.match=tokens"} in arms
    for method in ("method=complexity_aware", "method=redraw", "method=self_taught"):
        assert {method, "split=random", "split.match=calls"} in arms


def test_a_grid_is_each_value_with_each_other() -> None:
    assert own("method=sft,base", "seed=range(2)", "until=score") == [
        ("method=sft", "seed=0"),
        ("method=sft", "seed=1"),
        ("method=base", "seed=0"),
        ("method=base", "seed=1"),
    ]
    assert jobs("method=sft,base", "until=score")[0].all == ("method=sft", "until=score")


def test_cases_go_together_and_meet_the_grid() -> None:
    cases = 'hydra.sweeper.cases=[["method=sft"],["split=random","seed=3"]]'
    assert own(cases, "dataset.seed=1,2") == [
        ("method=sft", "dataset.seed=1"),
        ("method=sft", "dataset.seed=2"),
        ("split=random", "seed=3", "dataset.seed=1"),
        ("split=random", "seed=3", "dataset.seed=2"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["+hydra.sweeper.params.seed='1,2'"],
        ["+hydra.sweeper.params={seed:'1,2'}"],
        ["+hydra.sweeper.params.seed=1", "seed=1,2"],
    ],
)
def test_axes_of_the_sweeper_are_given_as_a_table_and_one_by_one(words: list[str]) -> None:
    assert own(*words) == [("seed=1",), ("seed=2",)]


def test_the_command_line_wins_over_cases_and_params() -> None:
    listed = own("multirun_sweeps=routing_control", "seed=7")
    assert len(listed) == 4
    assert all("seed=7" in job.all for job in jobs("multirun_sweeps=routing_control", "seed=7"))
    assert not any("seed=7" in job for job in listed)


def test_devices_are_shared_out_by_neighbours() -> None:
    assert device_groups(["0", "1", "2"], 1) == ["0", "1", "2"]
    assert device_groups(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert device_groups(["GPU-a"], 2) == []
    assert device_groups([], 1) == []


@pytest.mark.parametrize(
    ("status", "state", "shells"),
    [
        (0, "done", 0),
        (2, "failed", 2),
        (1, "failed", 1),
        (143, "stopped", 143),
        (-2, "stopped", 130),
        (-9, "failed", 137),
    ],
)
def test_how_a_process_ended_is_how_its_job_ended(
    tmp_path_factory: pytest.TempPathFactory, status: int, state: str, shells: int
) -> None:
    folder = tmp_path_factory.mktemp("sweep") / "job"
    folder.mkdir()
    job = end(folder, Job(folder="job", state="running"), status, None)
    assert (job.state, job.exit_status) == (state, shells)


def test_a_sweeps_status_is_a_fault_before_it_is_the_users() -> None:
    def ended(*statuses: int) -> int:
        return worst_status(
            [Job(folder="j", state="failed" if s else "done", exit_status=s) for s in statuses]
        )

    assert [ended(0, 0), ended(0, 2), ended(2, 1, 0), ended(2, 137)] == [0, 2, 1, 1]


def test_jobs_that_run_at_once_never_share_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,8")
    with own_devices(tmp_path, 2) as first:
        with own_devices(tmp_path, 2) as second:
            given = [first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]]
            assert given == ["4,5", "6,7"]
        with own_devices(tmp_path, 2) as third:
            assert third == second
        stop_jobs(tmp_path, signal.SIGINT)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
        with (
            pytest.raises(JobError, match="being stopped"),
            own_devices(tmp_path, 2),
        ):
            pytest.fail("it has the first job's devices")
    with own_devices(tmp_path, 0) as none:
        assert none == {}


def test_a_job_takes_devices_for_itself_where_others_run_beside_it() -> None:
    trainer = OmegaConf.create({"devices": 2, "accelerator": "auto"})
    assert count_devices(trainer, shared=True) == 2
    assert count_devices(trainer, shared=False) == 0
    trainer.accelerator = "cpu"
    assert count_devices(trainer, shared=True) == 0

"""Which jobs are one arm, and which base model's replies are one observation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sweep_sample import write_job

from caft.errors import UserError
from caft.report.sweep import read_sweep, write_sweep_report
from caft.report.sweep.arms import find_arms
from caft.report.sweep.comparisons import compare_pairs
from caft.report.sweep.job_results import JobResult, Sweep
from caft.report.sweep.origin import find_bases
from caft.report.sweep.summary import analyse_sweep
from caft.statistics import mean_interval, resample_means, smallest_paired_difference
from caft.sweeps import job_table

WRITTEN = "2026-11-24T10:00:00+00:00"
MakeJob = Callable[..., JobResult]


def with_data(job: JobResult, **changed: str | None) -> JobResult:
    """The job with other fingerprints of its questions; None takes one out."""
    dataset = {**job.finished["dataset"], **changed}
    kept = {key: value for key, value in dataset.items() if value is not None}
    return replace(job, summary=job.finished | {"dataset": kept})  # type: ignore[arg-type]


def with_ids(job: JobResult, start: str) -> JobResult:
    """The job with other ids of its test questions."""
    replies = {
        mode: {start + key: right for key, right in rows.items()}
        for mode, rows in job.replies.items()
    }
    return replace(job, replies=replies)


@pytest.mark.parametrize("test_print", ["edited", None])
@pytest.mark.parametrize("ids", ["", "new "])
def test_seeds_that_answered_other_questions_are_no_one_arm(
    make_job: MakeJob, test_print: str | None, ids: str
) -> None:
    jobs = [make_job(seed, method="sft", seed=seed) for seed in (1, 2, 3)]
    edited = with_data(with_ids(jobs[2], ids), fingerprint="edited", test_fingerprint=test_print)
    arms = find_arms([*jobs[:2], edited])
    assert [(arm.name, arm.seeds) for arm in arms] == [("sft", [1, 2]), ("sft (2)", [3])]
    found = analyse_sweep(Sweep(name="x", jobs=[*jobs[:2], edited]), WRITTEN).summary
    assert found["comparisons"] == []
    assert found["jobs"][2]["arm"] == "sft (2)"
    (warning,) = [text for text in found["warnings"] if "data file" in text]
    assert warning.startswith("Jobs of equal settings answered different test questions, and are "
                              "settings of their own: sft and sft (2). ")  # fmt: skip
    # Training rows may differ: that is no other arm.
    same = [with_data(job, fingerprint=f"f{k}", test_fingerprint="t") for k, job in enumerate(jobs)]
    assert [arm.seeds for arm in find_arms(same)] == [[1, 2, 3]]


def test_equal_ids_of_other_questions_are_no_one_set(make_job: MakeJob) -> None:
    """Two pairs of arms, each on data of its own: they hold together as for two sets of ids."""
    jobs = [make_job(k, method="sft", overrides=(f"a.b={k}",), accuracy=0.4 + 0.05 * k)
            for k in range(4)]  # fmt: skip
    edited = [with_data(job, fingerprint="b", test_fingerprint="b") for job in jobs[2:]]
    one, two, three, four = find_arms([*jobs[:2], *edited])
    found = compare_pairs([(one, two), (three, four)], 0.95, together=True)
    alone = [compare_pairs([pair], 0.975)[0] for pair in ((one, two), (three, four))]
    for pair, own in zip(found, alone, strict=True):
        assert (pair["low"], pair["high"]) == pytest.approx((own["low"], own["high"]))
    # Holm's correction is over both sets, and so is the smallest difference that can be seen.
    for pair in compare_pairs([(one, two), (three, four)], 0.95):
        differing = (pair["only_first"] + pair["only_second"]) / pair["n"]
        seen = smallest_paired_difference(pair["n"], differing, alpha=0.05 / 2)
        assert pair["detectable"] == pytest.approx(seen)


def test_arms_that_are_named_alike_have_names_of_their_own(make_job: MakeJob) -> None:
    """`python train.py`, and `python train.py method=complexity_aware`, which is the default."""
    jobs = []
    for number, accuracy in enumerate((0.3, 0.6)):
        job = make_job(number, method="complexity_aware", accuracy=accuracy)
        jobs.append(replace(job, overrides=("method=complexity_aware",) * number))
    found = analyse_sweep(Sweep(name="runs", jobs=jobs), WRITTEN).summary
    assert [(arm["name"], round(arm["accuracy"]["value"], 2)) for arm in found["arms"]] == [
        ("complexity_aware", 0.3), ("complexity_aware (2)", 0.6)
    ]  # fmt: skip
    assert [job["arm"] for job in found["jobs"]] == ["complexity_aware", "complexity_aware (2)"]
    (pair,) = found["comparisons"]
    assert (pair["first"], pair["second"]) == ("complexity_aware", "complexity_aware (2)")
    assert pair["value"] == pytest.approx(0.3)
    assert found["savings"] is not None
    amounts = found["savings"]["counts"]["teacher_calls"]["amounts"]
    assert [*amounts] == ["complexity_aware", "complexity_aware (2)"]
    (warning,) = [text for text in found["warnings"] if "numbered" in text]
    assert warning.startswith("Named like another setting, and numbered: complexity_aware (2). ")


def base_of(make_job: MakeJob, rows_of: Mapping[int, int]) -> dict[str, float]:
    """The base model's accuracy where seed s was right on the first `rows_of[s]` of 300."""
    jobs = []
    for seed, right in rows_of.items():
        job = make_job(seed, method="sft", seed=seed)
        replies = {key: k < right for k, key in enumerate(sorted(job.base_replies["answer"]))}
        jobs.append(replace(job, base_replies={"answer": replies}))
    (base,) = find_bases(jobs, 0.95)
    assert base["seeds"] == [*rows_of]
    return dict(base["accuracy"])


def test_equal_replies_of_two_seeds_are_two_of_three(make_job: MakeJob) -> None:
    found = base_of(make_job, {1: 60, 2: 60, 3: 120})
    assert found["value"] == pytest.approx((0.2 + 0.2 + 0.4) / 3)
    rows = [[k < right for k in range(300)] for right in (60, 60, 120)]
    whole = mean_interval(resample_means({"base": rows})["base"])
    assert (found["low"], found["high"]) == pytest.approx((whole.low, whole.high), abs=1e-3)
    # Where all are alike they are one observation.
    assert base_of(make_job, {1: 60, 2: 60, 3: 60}) == base_of(make_job, {1: 60})


def untuned(job: JobResult, right: int, **changes: object) -> JobResult:
    """The job with a base model that gets so many of 300 questions right."""
    replies = {f"q{k:03}": k < right for k in range(300)}
    return replace(job, base_replies={"answer": replies}, **changes)  # type: ignore[arg-type]


def rows_of(jobs: Sequence[JobResult]) -> list[tuple[str, list[int], float]]:
    return [
        (base["name"], base["seeds"], round(base["accuracy"]["value"], 3))
        for base in find_bases(jobs, 0.95)
    ]


def test_base_models_of_one_id_that_answer_otherwise_are_rows_of_their_own(
    make_job: MakeJob,
) -> None:
    """Such as the three architectures of multirun_sweeps=models, and several numbers of shots."""
    right = {"llama": 60, "qwen2": 270, "phi3": 150}
    jobs = [
        untuned(make_job(k, method=method, seed=seed, overrides=(f"model.architecture={name}",)),
                count)
        for k, (name, count) in enumerate(right.items())
        for method in ("sft", "distill")
        for seed in (1, 2)
    ]  # fmt: skip
    assert rows_of(jobs) == [
        ("base model, model.architecture=llama", [1, 2], 0.2),
        ("base model, model.architecture=qwen2", [1, 2], 0.9),
        ("base model, model.architecture=phi3", [1, 2], 0.5),
    ]
    # What the replies do not depend on is no other model, nor is a job of one more seed.
    sizes = [
        untuned(make_job(k, method="sft", seed=seed, overrides=(f"dataset.train={size}",)), 60)
        for k, (size, seed) in enumerate([(60, 1), (200, 1), (200, 2)])
    ]
    assert rows_of(sizes) == [("base model", [1, 2], 0.2)]
    # An edited file of the config has no override.
    edited = [
        untuned(make_job(k, method="sft", seed=1), count, config={"model": {"width": count}})
        for k, count in enumerate((60, 150))
    ]
    assert rows_of(edited) == [("base model", [1], 0.2), ("base model (2)", [1], 0.5)]


def test_a_reply_that_is_missing_under_one_seed_is_not_wrong(make_job: MakeJob) -> None:
    jobs = [untuned(make_job(k, method="sft", seed=k), 300) for k in (1, 2)]
    jobs[1] = replace(jobs[1], base_replies={"answer": {"q000": True}})
    assert rows_of(jobs) == [("base model", [1], 1.0)]


def test_a_folder_of_sweeps_is_no_sweep(make_job: MakeJob, tmp_path: Path) -> None:
    for name in ("10-02-11", "11-30-00"):
        write_job(tmp_path / name, make_job(0, method="sft"))
        write_sweep_report(tmp_path / name)
    with pytest.raises(UserError, match="holds no job of a sweep"):
        write_sweep_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
    # Beside runs, sweeps are not taken for one.
    write_job(tmp_path, make_job(1, method="sft"))
    assert [job.folder for job in read_sweep(tmp_path).jobs] == [
        "1_method=sft_seed=1_split=entropy"
    ]


def plan(folder: Path, jobs: list[JobResult], shared: str) -> None:
    """The jobs of one command, run to their end."""
    planned = [
        job_table.Job(folder=job.folder, overrides=[f"seed={job.seed}"], shared=[shared])
        for job in jobs
    ]
    job_table.plan_jobs(folder, planned)
    for job in jobs:
        write_job(folder, job)
        # Its process writes all overrides down.
        entry = {"folder": job.folder, "overrides": [f"seed={job.seed}", shared], "state": "done"}
        (folder / job.folder / "job.json").write_text(json.dumps(entry))


@pytest.mark.parametrize("seeds", [(4, 5), (1, 2, 3)])
def test_two_commands_in_one_folder_are_arms_of_their_own(
    make_job: MakeJob, tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    """`-m model=a seed=1,2,3 hydra.sweep.dir=X`, then model=b there with the same seeds or more."""
    small = [make_job(k, method="sft", seed=k, overrides=("model=a",)) for k in (1, 2, 3)]
    large = [make_job(9 + k, method="sft", seed=k, overrides=("model=b",)) for k in seeds]
    plan(tmp_path, small, "model=a")
    plan(tmp_path, large, "model=b")
    sweep = read_sweep(tmp_path)
    found = analyse_sweep(sweep, WRITTEN).summary
    arms = {arm["name"]: arm["seeds"] for arm in found["arms"]}
    assert arms == {"a": [1, 2, 3], "b": [*seeds]}
    assert not any("left out" in text for text in found["warnings"])
    # A third one, whose jobs wait: what they share is no setting that others lack.
    waiting = [job_table.Job(folder="new", overrides=["seed=8"], shared=["model=b"])]
    job_table.plan_jobs(tmp_path, waiting)
    assert {arm.name for arm in find_arms(read_sweep(tmp_path).jobs)} == {"a", "b"}


def test_jobs_of_an_edited_config_are_no_one_arm(make_job: MakeJob, tmp_path: Path) -> None:
    """The overrides are equal, and a file of the config changed between two starts."""
    for seed in (1, 2, 3):
        job = make_job(seed, method="sft", seed=seed)
        write_job(tmp_path, job)
        config = {"seed": seed, "name": f"run {seed}", "tuning": {"lr": 1e-3 if seed < 3 else 1e-4}}
        record = tmp_path / job.folder / ".hydra/frozen.json"
        record.parent.mkdir()
        record.write_text(json.dumps({"config": config}))
    found = analyse_sweep(read_sweep(tmp_path), WRITTEN).summary
    assert {arm["name"]: arm["seeds"] for arm in found["arms"]} == {"sft": [1, 2], "sft (2)": [3]}
    (warning,) = [text for text in found["warnings"] if "sft (2)" in text and "Jobs" in text]
    assert warning == (
        "Jobs of equal overrides have different configs, and are settings of their own: sft and "
        "sft (2). Was a file of the config edited between two starts?"
    )

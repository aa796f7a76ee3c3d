"""What each setting trained by what it answers, class by class; rules that draw their classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from caft.report.run.class_rows import tabulate_classes as tabulate_own_classes
from caft.report.sweep.job_results import JobResult, Sweep
from caft.report.sweep.markdown import write_markdown
from caft.report.sweep.page import render_sweep
from caft.report.sweep.summary import analyse_sweep
from caft.report.sweep.tables import tabulate_classes

WRITTEN = "2026-01-01T00:00:00+00:00"
Make = Callable[..., JobResult]


def trained_on(job: JobResult, name: str, shares: dict[str, float]) -> JobResult:
    """The job with one trained class, and with these accuracies on the test classes."""
    summary = job.finished
    stage = {"targets": {name: "rationale"}, "epochs": 3, "examples": 10}
    summary["method"] = {"name": "hard_only", "stages": [stage]}  # type: ignore[typeddict-item]
    split = summary["split"]
    assert split
    split["counts"] = dict.fromkeys(shares, 50)
    for result in job.results.values():
        result["by_complexity"] = {
            key: {"value": share, "low": 0.0, "high": 1.0, "n": 10} for key, share in shares.items()
        }
    word = f"method.stages=[{{targets:{{{name}:rationale}},epochs:3}}]"
    return replace(job, overrides=(*job.overrides, word))


def test_trained_classes_by_test_classes_by_hand(make_job: Make) -> None:
    shares = {"bin1": {1: [0.8, 0.3], 2: [0.6, 0.1]}, "bin2": {1: [0.5, 0.5], 2: [0.7, 0.3]}}
    jobs = [
        trained_on(make_job(10 * place + seed, method="sft", seed=seed), name,
                   dict(zip(shares, of_seed, strict=True)))
        for place, (name, by_seed) in enumerate(shares.items())
        for seed, of_seed in by_seed.items()
    ]  # fmt: skip
    control = trained_on(make_job(90, method="sft", split="random"), "bin1", {"bin1": 0.9})
    found = analyse_sweep(Sweep(name="x", jobs=[*jobs, control]), WRITTEN)
    table = tabulate_classes(found.summary["arms"])
    assert table is not None
    assert [column.name for column in table.columns] == [
        "setting", "trained on", "on bin1", "on bin2"
    ]  # fmt: skip
    assert [[cell.text for cell in row[1:]] for row in table.rows] == [
        ["bin1: rationale", "70.0%", "20.0%"],
        ["bin2: rationale", "60.0%", "40.0%"],
    ]
    assert "Trained classes by test classes" in render_sweep(found)
    assert "| bin2: rationale | 60.0% | 40.0% |" in write_markdown(found.summary, [])


def test_arms_that_trained_the_same_classes_have_no_such_table(make_job: Make) -> None:
    jobs = [
        trained_on(make_job(number, method="sft", overrides=(f"tuning.clip={number}",)), "bin1",
                   {"bin1": 0.5})
        for number in (1, 2)
    ]  # fmt: skip
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    assert tabulate_classes(found.summary["arms"]) is None
    assert "Trained classes by test classes" not in render_sweep(found)


def test_a_win_of_a_rule_that_draws_is_none_of_the_cut(make_job: Make) -> None:
    arms: list[dict[str, Any]] = [
        {"accuracy": 0.48},
        {"accuracy": 0.65, "split": "sampled_0.3"},
        {"accuracy": 0.47, "split": "random"},
    ]
    jobs = [
        make_job(10 * place + seed, method="complexity_aware", seed=seed, **arm)
        for place, arm in enumerate(arms)
        for seed in (1, 2, 3)
    ]
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    routing = found.summary["routing"]
    (drawn,) = routing["others"]
    assert routing["verdict"] == "not enough data"
    assert (drawn["estimator"], drawn["verdict"]) == ("answer_entropy, sampled_0.3", "yes")
    assert found.answers[2].asked == (
        "Does routing by answer entropy (sampled_0.3) beat random routing at an equal budget?"
    )
    assert found.answers[2].figure.startswith("1 comparison")


def test_the_section_on_routing_names_a_rule_as_its_headline_does(make_job: Make) -> None:
    own: dict[str, Any] = {"split": "sampled_0.3", "estimator": "cot_margin"}
    own["overrides"] = ("split.estimator=cot_margin",)
    arms: list[dict[str, Any]] = [{"accuracy": 0.65, **own}, {"accuracy": 0.47, "split": "random"}]
    jobs = [
        make_job(10 * place + seed, method="complexity_aware", seed=seed, **arm)
        for place, arm in enumerate(arms)
        for seed in (1, 2, 3)
    ]
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    named = "ean CoT top-2 margin (sampled_0.3)"
    page = render_sweep(found)
    # The question after how to spend a budget: nothing asks about entropy, which no arm routed by.
    assert f"routing by m{named} beat" in found.answers[1].asked
    assert f"<strong>M{named}: yes.</strong>" in page
    assert "Entropy: undefined" not in page
    assert "entropy routing" not in "".join(answer.asked for answer in found.answers)


def test_other_draws_are_other_stages_and_no_control(make_job: Make) -> None:
    arms = [{"accuracy": 0.65}, {"accuracy": 0.47, "split": "random"}]
    jobs = [
        make_job(10 * place + seed, method="complexity_aware", seed=seed, **arm)  # type: ignore[arg-type]
        for place, arm in enumerate(arms)
        for seed in (1, 2, 3)
    ]
    for job in jobs[:3]:
        job.finished["method"]["stages"][1]["draw"] = {"hard": 5}
    assert not analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN).summary["routing"]["tests"]


def test_a_class_says_how_many_an_epoch_draws_and_what_they_weigh(sample: Any) -> None:
    stage = {"targets": {"easy": "answer", "hard": "rationale"}, "epochs": 3, "examples": 10,
             "draw": {"hard": 1024}, "weights": {"hard": 2.5, "easy": 0.5}}  # fmt: skip
    method: Any = {"name": "mine", "stages": [stage]}
    table = tabulate_own_classes(sample.summary["split"], method, {}, "answer_entropy")
    assert [row["stage 1, 3 epochs"] for row in table.texts] == [
        "answer, weight 0.5", "not in it", "rationale, 1,024 an epoch, weight 2.5"
    ]  # fmt: skip

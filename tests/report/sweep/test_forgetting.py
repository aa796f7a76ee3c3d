"""What every setting of a sweep changed on further sets: means over seeds, and their verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from caft.report.check import check_part
from caft.report.sweep import JobResult, Sweep
from caft.report.sweep.markdown import write_markdown
from caft.report.sweep.page import render_sweep
from caft.report.sweep.schema import SweepSummary
from caft.report.sweep.summary import analyse_sweep
from caft.statistics import count_paired, judge_forgetting, score_difference

QUESTIONS = 1000
TEST = {
    "dataset": "mmlu", "mode": "answer", "left_out": 0, "chance": 0.25, "grader": "",
    "base": {"value": 0.6, "low": 0.57, "high": 0.63, "n": QUESTIONS}, "tuned": None,
    "change": None, "unparsable": {}, "verdict": "no", "reason": "",
}  # fmt: skip


def add(job: JobResult, lost: int, **test: Any) -> JobResult:
    """600 of 1,000 right before tuning, and `lost` fewer after it."""
    ids = [f"m{place:04}" for place in range(QUESTIONS)]
    right = {"base": range(600), "tuned": range(lost, 600)}
    further = {
        ("mmlu", "answer", model): {key: place in given for place, key in enumerate(ids)}
        for model, given in right.items()
    }
    summary: Any = {**job.finished, "forgetting": {"verdict": "no", "margin": 0.02,
                                                   "tests": [{**TEST, **test}]}}  # fmt: skip
    return replace(job, summary=summary, further=further)


def analyse(*jobs: JobResult) -> Any:
    return analyse_sweep(Sweep(name="s", jobs=jobs), "2026-01-01T00:00:00+00:00")


@pytest.fixture(scope="module")
def found(make_job: Callable[..., JobResult]) -> Any:
    jobs = [
        add(make_job(number, method=method, seed=seed), lost + seed)
        for number, (method, lost, seed) in enumerate(
            (method, lost, seed)
            for method, lost in (("sft", 100), ("complexity_aware", 0))
            for seed in (1, 2, 3)
        )
    ]
    alone = add(make_job(6, method="distill", seed=1), 100)
    return analyse(*jobs, alone)


def test_a_setting_is_judged_over_its_questions_and_seeds(found: Any) -> None:
    check_part(found.summary, SweepSummary, "summary")
    parts = {part["arm"]: part for part in found.summary["forgetting"]}
    names = [name for method in ("sft", "complexity_aware", "distill")
             for name in parts if method in name]  # fmt: skip
    sft, routed, alone = (parts[name] for name in names)
    assert (sft["base"], sft["tuned"]) == (0.6, pytest.approx(0.498))
    assert sft["value"] == pytest.approx(-0.102)
    assert (sft["verdict"], sft["seeds"]) == ("yes", 3)
    assert routed["value"] == pytest.approx(-0.002)
    assert routed["verdict"] == "no"
    # One seed says nothing about others, however large the loss.
    assert (alone["verdict"], alone["seeds"]) == ("not enough data", 1)
    assert sft["p_adjusted"] == pytest.approx(3 * sft["p_value"])


def test_page_and_markdown_have_the_table(found: Any) -> None:
    page = render_sweep(found)
    assert 'id="forgetting"' in page
    assert "| -10.2 points (" in write_markdown(found.summary, [])


def test_without_further_sets_there_is_no_table(make_job: Callable[..., JobResult]) -> None:
    found = analyse(make_job(0, method="sft"), make_job(1, method="distill"))
    assert "forgetting" not in found.summary
    assert "forg" not in render_sweep(found)
    assert "further" not in write_markdown(found.summary, [])


def test_where_the_base_model_has_nothing_to_lose_there_is_no_verdict(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [add(make_job(k, method="sft", seed=k), 100, verdict="undefined") for k in (1, 2, 3)]
    (part,) = analyse(*jobs).summary["forgetting"]
    assert part["verdict"] == "undefined"


@pytest.mark.parametrize(
    ("questions", "verdict"), [(20, "not enough data"), (100, "not enough data"), (300, "no")]
)
def test_seeds_that_win_other_questions_are_not_more_questions(
    make_job: Callable[..., JobResult], questions: int, verdict: str
) -> None:
    rows = {f"m{place}": place >= 3 for place in range(questions)}
    jobs = [
        replace(
            add(make_job(seed, method="sft", seed=seed), 0),
            further={
                ("mmlu", "answer", "base"): rows,
                ("mmlu", "answer", "tuned"): {**rows, f"m{seed - 1}": True},
            },
        )
        for seed in (1, 2, 3)
    ]
    (part,) = analyse(*jobs).summary["forgetting"]
    assert part["verdict"] == verdict
    outcome = count_paired([*rows.values()], [True, *[*rows.values()][1:]])
    assert judge_forgetting(score_difference(outcome), 1.0).value == verdict


@pytest.mark.parametrize(
    ("questions", "base", "tuned", "verdict"),
    [
        (20, 11, 12, "not enough data"),
        (188, 100, 100, "not enough data"),
        (189, 100, 100, "no"),
        # A large gain on few questions rules a loss out, as it does for one run.
        (100, 60, 100, "no"),
    ],
)
def test_few_questions_without_a_loss_are_judged_as_those_of_a_run(
    make_job: Callable[..., JobResult], questions: int, base: int, tuned: int, verdict: str
) -> None:
    few = {
        ("mmlu", "answer", model): {f"m{place}": place < right for place in range(questions)}
        for model, right in (("base", base), ("tuned", tuned))
    }
    jobs = [replace(add(make_job(k, method="sft", seed=k), 0), further=few) for k in (1, 2, 3)]
    (part,) = analyse(*jobs).summary["forgetting"]
    assert part["verdict"] == verdict
    assert (part["low"] > -0.02) == (verdict == "no")
    outcome = count_paired(*([k < right for k in range(questions)] for right in (base, tuned)))
    assert judge_forgetting(score_difference(outcome), 1.0).value == verdict

"""One report for a whole sweep: numbers, verdicts and the page."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_sample import write_job, write_page

from caft.errors import UserError
from caft.report.__main__ import main
from caft.report.check import check_part
from caft.report.comparison import results_by_mode
from caft.report.predictions import judge_predictions, read_predictions
from caft.report.sweep import list_answers, read_sweep, write_sweep_report
from caft.report.sweep.answers import subtract
from caft.report.sweep.arms import equal_budgets, find_arms, pick_common_mode
from caft.report.sweep.comparisons import (
    compare_all,
    correct_together,
    describe_pair,
    outcomes_by_seed,
)
from caft.report.sweep.figures import draw_sweep
from caft.report.sweep.job_results import JobResult, Sweep, name_settings, varying_settings
from caft.report.sweep.page import render_sweep
from caft.report.sweep.schema import ComparisonPart, SweepSummary
from caft.report.sweep.summary import analyse_sweep
from caft.report.sweep.tables import tabulate_comparisons, tabulate_tests
from caft.statistics import Verdict, compare_arms, mcnemar_exact
from caft.statistics.arms import pair_seeds
from caft.statistics.paired import sign_flip_exact
from caft.sums import write_sums

WRITTEN = "2026-11-24T10:00:00+00:00"


def test_arms_are_what_differs_beside_the_seed(finished_sweep: Sweep) -> None:
    arms = find_arms(finished_sweep.jobs)
    assert [arm.name for arm in arms] == [
        "sft, entropy", "distill, entropy", "complexity_aware, entropy", "complexity_aware, random"
    ]  # fmt: skip
    assert [arm.seeds for arm in arms] == [[1, 2, 3]] * 4
    assert arms[0].accuracy == pytest.approx(0.45)


def test_settings_that_all_jobs_share_are_not_named() -> None:
    lines = (
        "model=tiny split.quantiles=[.25,.75] seed=1 store.path=a",
        "model=tiny split.quantiles=[.5,.75] seed=2 store.path=b",
        "model=tiny",
    )
    jobs = [
        JobResult(number=k, folder=str(k), overrides=tuple(line.split()))
        for k, line in enumerate(lines)
    ]
    settings = varying_settings(jobs)
    assert settings == [
        {"split.quantiles": "[.25,.75]"}, {"split.quantiles": "[.5,.75]"}, {}
    ]  # fmt: skip
    assert name_settings({"method": "sft", **settings[0]}) == "sft, split.quantiles=[.25,.75]"


def test_pairs_pool_discordant_replies_over_equal_seeds(finished_sweep: Sweep) -> None:
    arms = find_arms(finished_sweep.jobs)
    (found,) = compare_all(arms[2:], 0.95)
    rows = [
        (one.outcomes[key], two.outcomes[key])
        for one, two in zip(arms[2].jobs, arms[3].jobs, strict=True)
        for key in one.outcomes
    ]
    assert (found["only_first"], found["only_second"]) == (
        rows.count((True, False)), rows.count((False, True))
    )  # fmt: skip
    # As one observation a question, and not one a reply.
    by_question = [
        sum(two.outcomes[key] - one.outcomes[key]
            for one, two in zip(arms[2].jobs, arms[3].jobs, strict=True))
        for key in arms[2].jobs[0].outcomes
    ]  # fmt: skip
    assert found["p_value"] == sign_flip_exact(by_question)
    assert found["p_value"] > mcnemar_exact(found["only_first"], found["only_second"])
    assert found["value"] == pytest.approx(-0.15)
    assert found["low"] < -0.15 < found["high"] < 0
    assert found["clear"]


def test_replies_repeated_under_every_seed_count_once(make_job: Callable[..., JobResult]) -> None:
    # An untuned model says the same under every seed.
    jobs = []
    for method, accuracy in (("sft", 0.45), ("distill", 0.5)):
        job = make_job(0 if method == "sft" else 1, method=method, accuracy=accuracy)
        for seed in (1, 2, 3):
            run = job.summary["run"] | {"seed": seed}  # type: ignore[index]
            jobs.append(replace(job, summary=job.summary | {"run": run}))  # type: ignore[operator]
    arms = find_arms(jobs)
    (thrice,) = compare_all(arms, 0.95)
    (once,) = compare_all([replace(arm, jobs=arm.jobs[:1]) for arm in arms], 0.95)
    assert thrice["only_second"] == 3 * once["only_second"] > 0
    assert thrice["p_value"] == pytest.approx(once["p_value"], rel=1e-12)
    assert once["p_value"] == pytest.approx(mcnemar_exact(once["only_first"], once["only_second"]))
    bounds = ("value", "low", "high", "n")
    assert [thrice[key] for key in bounds] == [once[key] for key in bounds]  # type: ignore[literal-required]


def test_seeds_are_paired_by_number_and_the_others_in_order(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [make_job(k, method="sft", seed=seed) for k, seed in enumerate((1, 2))]
    jobs += [make_job(k, method="distill", seed=seed) for k, seed in enumerate((2, 3), start=2)]
    first, second = find_arms(jobs)
    before, after = outcomes_by_seed(first), outcomes_by_seed(second)
    rows = [list(job.outcomes.values()) for job in jobs]
    assert pair_seeds(before, after) == [(rows[1], rows[2]), (rows[0], rows[3])]
    assert len(pair_seeds(before, {3: after[3]})) == 1


def test_holm_counts_all_pairs(finished_sweep: Sweep) -> None:
    found = compare_all(find_arms(finished_sweep.jobs), 0.95)
    assert len(found) == 6
    smallest = min(found, key=lambda pair: pair["p_value"])
    assert smallest["p_adjusted"] == pytest.approx(6 * smallest["p_value"])


def test_other_questions_are_never_compared(make_job: Callable[..., JobResult]) -> None:
    one, two = make_job(0, method="sft"), make_job(1, method="distill")
    two.summary["dataset"]["fingerprint"] = "other"  # type: ignore[index]
    found = analyse_sweep(Sweep(name="x", jobs=[one, two]), WRITTEN)
    assert found.summary["comparisons"] == []
    assert any(
        "only those that did are compared" in warning for warning in found.summary["warnings"]
    )


def with_engine(job: JobResult, name: str, version: str | None) -> JobResult:
    """The job with replies of this engine."""
    engine = {"name": name, "version": version, "settings": {}, "gates": []}
    return replace(job, summary=job.summary | {"engine": engine})  # type: ignore[operator]


def with_longer_answers(job: JobResult, *, writes: bool) -> JobResult:
    summary = copy.deepcopy(job.finished)
    summary["engine"]["writes_answers"] = writes
    answers = results_by_mode(summary["accuracy"], "tuned")["answer"]
    answers["generated_tokens"] = 9 * answers["n"]
    return replace(job, summary=summary)


def test_replies_of_different_engines_are_never_compared(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [make_job(k, method=method, accuracy=share)
            for k, (method, share) in enumerate((("sft", 0.4), ("distill", 0.6),
                                                 ("complexity_aware", 0.8)))]  # fmt: skip
    # Earlier versions named no engine: they had ours.
    own, vllm = with_engine(jobs[1], "own", None), with_engine(jobs[2], "vllm", "0.33.0")
    found = analyse_sweep(Sweep(name="x", jobs=[jobs[0], own, vllm]), WRITTEN)
    pairs = [(pair["first"], pair["second"]) for pair in found.summary["comparisons"]]
    assert pairs == [("sft", "distill")]
    assert any(
        "different engines: own, vllm 0.33.0" in warning for warning in found.summary["warnings"]
    )
    assert found.answers[2].detail.startswith("No other setting answered")
    # An answer of one token is read by us, whatever the engine.
    answers = [
        make_job(k, method=method, in_answer_mode=0.5)
        for k, method in enumerate(("sft", "distill"))
    ]
    read = [with_engine(answers[0], "own", None), with_engine(answers[1], "vllm", "0.33.0")]
    read = [replace(job, given_mode="answer") for job in read]
    found = analyse_sweep(Sweep(name="x", jobs=read), WRITTEN)
    assert len(found.summary["comparisons"]) == 1
    assert not any("different engines" in warning for warning in found.summary["warnings"])
    # So is a free-text one of several, unless it is asked for in its marker.
    longer = [with_longer_answers(job, writes=False) for job in read]
    assert len(analyse_sweep(Sweep(name="x", jobs=longer), WRITTEN).summary["comparisons"]) == 1
    longer = [with_longer_answers(job, writes=True) for job in read]
    assert analyse_sweep(Sweep(name="x", jobs=longer), WRITTEN).summary["comparisons"] == []
    # One arm whose seeds were written by two is compared with nothing.
    seeds = [make_job(3, method="distill", seed=seed, accuracy=0.6) for seed in (1, 2)]
    mixed = [jobs[0], seeds[0], with_engine(seeds[1], "vllm", "0.33.0")]
    assert analyse_sweep(Sweep(name="x", jobs=mixed), WRITTEN).summary["comparisons"] == []
    other = with_engine(jobs[1], "vllm", "0.34.0")
    assert analyse_sweep(Sweep(name="x", jobs=[other, vllm]), WRITTEN).summary["comparisons"] == []


def with_questions(job: JobResult, fingerprint: str, of_test: str) -> JobResult:
    """The job with other training rows, or other test questions under the same ids."""
    dataset = job.summary["dataset"] | {  # type: ignore[index]
        "fingerprint": fingerprint, "test_fingerprint": of_test
    }  # fmt: skip
    return replace(job, summary=job.summary | {"dataset": dataset})  # type: ignore[operator]


def test_the_same_test_questions_are_compared_whatever_was_trained(
    make_job: Callable[..., JobResult],
) -> None:
    arms = ((300, 0.8, "a", "same"), (100, 0.4, "b", "same"), (500, 0.4, "c", "other"))
    jobs = [
        with_questions(
            make_job(2 * k + seed, method="sft", overrides=(f"dataset.train={n}",),
                     accuracy=accuracy, seed=seed), *prints)
        for k, (n, accuracy, *prints) in enumerate(arms)
        for seed in (1, 2)
    ]  # fmt: skip
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    names = [arm["name"] for arm in found.summary["arms"]]
    assert [(pair["first"], pair["second"]) for pair in found.summary["comparisons"]] == [
        (names[0], names[1])
    ]
    assert (
        "clearly ahead of the 1 setting that it could be compared with (1 answered other"
        in found.answers[2].detail
    )
    # Nobody else's questions: reported, and not called a win.
    found = analyse_sweep(Sweep(name="x", jobs=[jobs[0], jobs[4]]), WRITTEN)
    (alone,) = [answer for answer in found.answers if answer.asked.startswith("Which")]
    assert alone.detail == "No other setting answered the same test questions by the same engine."


def test_the_best_by_its_own_mode_is_not_ahead_where_the_common_mode_says_otherwise(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [
        job
        for seed in (1, 2)
        for job in (
            make_job(seed, method="sft", accuracy=0.7, in_answer_mode=0.1, seed=seed,
                     overrides=("tuning.rank=8",), validation={"rationale": 0.5, "answer": 0.3}),
            make_job(seed + 2, method="sft", accuracy=0.1, in_answer_mode=0.6, seed=seed,
                     overrides=("tuning.rank=4",), validation={"rationale": 0.3, "answer": 0.9}),
        )
    ]  # fmt: skip
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    assert [arm["accuracy"]["value"] for arm in found.summary["arms"]] == pytest.approx([0.7, 0.6])
    (pair,) = found.summary["comparisons"]
    assert (pair["mode"], pair["clear"]) == ("answer", True)
    assert found.answers[2].answer == "No clear winner"


def test_a_small_p_beside_an_interval_with_0_says_what_it_leaves_out() -> None:
    """Thirty of a hundred questions are won: under one seed in three, or ten under each."""
    first = {seed: [k < 50 for k in range(100)] for seed in (1, 2, 3)}
    uneven = {**first, 1: [k < 80 for k in range(100)]}
    even = {seed: [k < 60 for k in range(100)] for seed in (1, 2, 3)}
    arms = {"first": first, "uneven": uneven, "even": even}
    gaps = compare_arms(arms, [("first", "uneven"), ("first", "even")])
    # Every sign alike, of thirty and of ten questions.
    assert [gap.p_value for gap in gaps] == pytest.approx([2 * 0.5**30, 2 * 0.5**10])
    # Accuracies of .8, .5 and .5 have the standard error .1, which Student takes four times.
    assert gaps[0].difference.value == gaps[1].difference.value == pytest.approx(0.1)
    assert gaps[0].difference.low < -0.1
    assert gaps[1].difference.low > 0
    pairs = [
        describe_pair("first", name, gap)
        for name, gap in zip(("uneven", "even"), gaps, strict=True)
    ]
    correct_together(pairs)
    rows = tabulate_comparisons(pairs).texts
    assert [row["p"] for row in rows] == ["p < 0.001 (these seeds only)", "p = 0.002"]
    assert [row["p, Holm"] for row in rows] == ["p < 0.001 (these seeds only)", "p = 0.002"]


def test_one_seed_a_setting_is_never_clear(make_job: Callable[..., JobResult]) -> None:
    jobs = [make_job(0, method="sft", accuracy=0.2), make_job(1, method="distill", accuracy=0.8)]
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    (pair,) = found.summary["comparisons"]
    assert pair["p_adjusted"] < 1e-9
    assert pair["low"] > 0.4
    assert not pair["clear"]
    assert found.answers[2].answer == "No clear winner"
    assert any(
        "nor is a difference from it called clear" in text for text in found.summary["warnings"]
    )


def routing_of(
    make_job: Callable[..., JobResult], routed: float, control: float, seeds: int, **dials: Any
) -> Any:
    jobs = []
    for seed in range(1, seeds + 1):
        jobs.append(make_job(seed, method="complexity_aware", seed=seed, accuracy=routed))
        jobs.append(make_job(seed + 50, method="complexity_aware", split="random", seed=seed,
                             accuracy=control, **dials))  # fmt: skip
    return analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN).summary["routing"]


def test_a_large_gain_over_random_is_a_yes(make_job: Callable[..., JobResult]) -> None:
    answer = routing_of(make_job, 0.62, 0.47, seeds=3)
    assert answer["verdict"] == "yes"
    assert answer["sentence"].startswith("Yes: at equal teacher calls and teacher tokens, ")
    assert "300 test questions and 3 seeds" in answer["sentence"]


def test_a_loss_is_a_no_and_a_draw_of_few_questions_is_neither(
    make_job: Callable[..., JobResult],
) -> None:
    assert routing_of(make_job, 0.45, 0.6, seeds=3)["verdict"] == "no"
    draw = routing_of(make_job, 0.5, 0.5, seeds=3)
    assert draw["verdict"] == Verdict.unclear.value
    assert draw["sentence"].startswith("Not enough data: ")


def test_two_seeds_are_not_enough_however_large_the_gain(
    make_job: Callable[..., JobResult],
) -> None:
    answer = routing_of(make_job, 0.8, 0.4, seeds=2)
    assert answer["verdict"] == Verdict.unclear.value
    assert "fewer than 3 seeds" in answer["sentence"]


def test_a_method_that_rescores_is_paired_with_the_control_that_moves_its_classes(
    make_job: Callable[..., JobResult],
) -> None:
    def make(split: str, seed: int, asked: int, *more: str) -> JobResult:
        job = make_job(seed, method="complexity_aware", split=split, seed=seed, rationales=asked,
                       accuracy=0.62 if split == "entropy" else 0.47, overrides=more)  # fmt: skip
        job.finished["method"]["stages"][0]["rescored"] = {"counts": {}, "moved": 1}
        return job

    # Seeds move other numbers of questions: the mean is what the control asks for.
    jobs = [make("entropy", seed, asked) for seed, asked in ((1, 190), (2, 200), (3, 210))]
    fixed = [
        make_job(seed, method="complexity_aware", split="random", seed=seed, rationales=200)
        for seed in (1, 2, 3)
    ]
    found = analyse_sweep(Sweep(name="s", jobs=[*jobs, *fixed]), WRITTEN)
    (why,) = (text for text in found.summary["warnings"] if "random routing" in text)
    assert why.startswith("Not tested against random routing: entropy (split.pool=200), whose cl")
    assert found.summary["routing"]["tests"] == []
    jobs += [make("random", seed, 200, "split.pool=200") for seed in (1, 2, 3)]
    found = analyse_sweep(Sweep(name="s", jobs=jobs), WRITTEN)
    (test,) = found.summary["routing"]["tests"]
    assert (test["first"], test["second"]) == ("random, split.pool=200", "entropy")
    assert (test["equal_in"], test["verdict"]) == (["teacher calls", "teacher tokens"], "yes")
    assert not [text for text in found.summary["warnings"] if "random routing" in text]


def test_unequal_budgets_are_not_compared(make_job: Callable[..., JobResult]) -> None:
    answer = routing_of(make_job, 0.8, 0.4, seeds=3, rationales=300)
    assert (answer["tests"], answer["verdict"]) == ([], "undefined")
    assert "and the same teacher calls or tokens" in answer["sentence"]


def test_equal_tokens_with_fewer_calls_are_an_equal_budget(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [
        make_job(0, method="complexity_aware"),
        make_job(1, method="complexity_aware", split="random", rationales=300, tokens=30),
        make_job(2, method="complexity_aware", split="random", overrides=("a.b=1",), tokens=70),
    ]
    arm, of_tokens, of_calls = find_arms(jobs)
    assert equal_budgets(arm, of_tokens) == ["teacher tokens"]
    assert equal_budgets(arm, of_calls) == ["teacher calls"]


def routing_sweep(make_job: Callable[..., JobResult], *arms: dict[str, Any]) -> Any:
    """What a sweep of these arms says, three seeds each; an arm is what `make_job` takes."""
    jobs = [
        make_job(10 * place + seed, method="complexity_aware", seed=seed, **arm)
        for place, arm in enumerate(arms)
        for seed in (1, 2, 3)
    ]
    return analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)


def test_a_win_of_another_estimate_is_none_of_entropy(make_job: Callable[..., JobResult]) -> None:
    found = routing_sweep(
        make_job,
        {"accuracy": 0.48},
        {"accuracy": 0.65, "estimator": "gold_cross_entropy",
         "overrides": ("split.estimator=gold_cross_entropy",)},
        {"accuracy": 0.47, "split": "random"},
    )  # fmt: skip
    routing = found.summary["routing"]
    (circular,) = routing["others"]
    assert routing["verdict"] == "not enough data"
    assert [(test["rank"], test["estimator"]) for test in routing["tests"]] == [
        (1, "gold_cross_entropy"), (2, "answer_entropy")
    ]  # fmt: skip
    assert (circular["estimator"], circular["verdict"]) == ("gold_cross_entropy", "yes")
    assert "gold_cross_entropy minus" in circular["sentence"]
    assert found.summary["answers"][2]["asked"] == (
        "Does routing by cross-entropy of the gold answer (circular) beat random routing at an "
        "equal budget?"
    )
    assert "<strong>Cross-entropy of the gold answer (circular): yes.</strong>" in render_sweep(
        found
    )


@pytest.mark.parametrize("strategy", ["sampled_0.1", "entropy_within_subject"])
def test_entropy_is_not_said_to_lack_the_control_that_tested_another_rule(
    make_job: Callable[..., JobResult], strategy: str
) -> None:
    rule = {"accuracy": 0.65, "split": strategy}
    routing = routing_sweep(make_job, rule, {"accuracy": 0.47, "split": "random"}).summary[
        "routing"
    ]
    assert [other["verdict"] for other in routing["others"]] == ["yes"]
    assert routing["verdict"] == "undefined"
    assert routing["sentence"] == (
        "Undefined: no evaluated job cuts by entropy alone; other rules have their own answers."
    )


def test_older_summaries_name_the_estimate_among_the_scores(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [make_job(0, method="sft"), make_job(1, method="sft", split="random")]
    for job in jobs:
        del job.summary["split"]["estimator"]  # type: ignore[index]
        job.summary["score"]["estimator"] = "option_entropy"  # type: ignore[index]
    assert [arm.estimator for arm in find_arms(jobs)] == ["option_entropy", None]


OF_CALLS = {"split": "random_calls", "overrides": ("split.match=calls",), "tokens": 40}
OF_TOKENS = {"split": "random_tokens", "overrides": ("split.match=tokens",), "rationales": 180,
             "tokens": 50}  # fmt: skip


@pytest.mark.parametrize(
    ("against_calls", "against_tokens", "verdict", "openings"),
    [
        (0.47, 0.47, Verdict.yes, ("Yes: at equal teacher calls, ", "At equal teacher tokens, ")),
        (0.47, 0.61, Verdict.unclear, ("Not enough data: at equal teacher calls yes, ",
                                       "At equal teacher tokens not enough data, ")),
        (0.47, 0.75, Verdict.no, ("No: at equal teacher calls yes, ",
                                  "At equal teacher tokens no, ")),
        (0.75, 0.75, Verdict.no, ("No: at equal teacher calls, ", "At equal teacher tokens, ")),
    ],
)  # fmt: skip
def test_yes_needs_every_control(
    make_job: Callable[..., JobResult],
    against_calls: float,
    against_tokens: float,
    verdict: Verdict,
    openings: tuple[str, str],
) -> None:
    answer = routing_sweep(
        make_job,
        {"accuracy": 0.62},
        OF_CALLS | {"accuracy": against_calls},
        OF_TOKENS | {"accuracy": against_tokens},
    ).summary["routing"]
    assert [test["equal_in"] for test in answer["tests"]] == [["teacher calls"], ["teacher tokens"]]
    assert answer["verdict"] == verdict.value
    assert answer["sentence"].startswith(openings[0])
    assert openings[1] in answer["sentence"]


def test_a_yes_at_equal_calls_alone_says_what_it_lacks(make_job: Callable[..., JobResult]) -> None:
    answer = routing_sweep(make_job, {"accuracy": 0.62}, OF_CALLS | {"accuracy": 0.47}).summary[
        "routing"
    ]
    assert answer["sentence"].startswith("Yes: at equal teacher calls, ")
    assert answer["sentence"].endswith("No random arm had as many teacher tokens.")


def test_arms_that_differ_beside_the_routing_are_no_rivals(
    make_job: Callable[..., JobResult],
) -> None:
    fast = ("tuning.learning_rate=1e-3",)
    answer = routing_sweep(
        make_job,
        {"accuracy": 0.62, "overrides": fast},
        {"accuracy": 0.47, "split": "random", "overrides": ("tuning.learning_rate=1e-4",)},
    ).summary["routing"]
    assert answer["tests"] == []
    assert "the same other settings" in answer["sentence"]
    answer = routing_sweep(
        make_job,
        {"accuracy": 0.62, "overrides": fast},
        {"accuracy": 0.47, "split": "random", "overrides": fast},
    ).summary["routing"]
    assert answer["verdict"] == "yes"


def test_arms_are_tested_in_one_mode_that_both_choose_together(
    make_job: Callable[..., JobResult],
) -> None:
    # Apart, entropy would be evaluated in rationale mode and its control in answer mode: 62%
    # against 20%. Together answer mode has (.50 + .40) / 2, rationale mode (.55 + .39) / 2.
    found = routing_sweep(
        make_job,
        {"accuracy": 0.62, "in_answer_mode": 0.2, "validation": {"answer": 0.5, "rationale": 0.55}},
        {"accuracy": 0.62, "in_answer_mode": 0.2, "split": "random",
         "validation": {"answer": 0.4, "rationale": 0.39}},
    )  # fmt: skip
    routing = found.summary["routing"]
    (test,) = routing["tests"]
    assert test["mode"] == "rationale"
    assert test["value"] == pytest.approx(0)
    assert "in rationale mode over 300 test questions" in routing["sentence"]
    # Pairs that were tuned in the same stages are compared so as well; the table of settings
    # keeps each one's own mode.
    (pair,) = found.summary["comparisons"]
    assert (pair["mode"], pair["value"]) == ("rationale", pytest.approx(0))
    assert [arm["modes"] for arm in found.summary["arms"]] == [["rationale"], ["answer"]]
    assert [arm["accuracy"]["value"] for arm in found.summary["arms"]] == pytest.approx([0.62, 0.2])
    (row,) = tabulate_tests(routing["tests"]).select("accuracy").rows
    assert [(cell.text, cell.aside) for cell in row] == [("62.0%", "rationale mode")]


def test_arms_are_ranked_inside_a_mode(make_job: Callable[..., JobResult]) -> None:
    """60% lost to the control's 70% in answer mode, 50% won against its 40% in rationale mode."""
    found = routing_sweep(
        make_job,
        {"accuracy": 0.4, "in_answer_mode": 0.7, "split": "random",
         "validation": {"answer": 0.5, "rationale": 0.5}},
        {"accuracy": 0.2, "in_answer_mode": 0.6, "validation": {"answer": 0.9, "rationale": 0.1}},
        {"accuracy": 0.5, "in_answer_mode": 0.2, "cuts": (0.1, 0.2), "split": "entropy_threshold",
         "validation": {"answer": 0.1, "rationale": 0.9}},
    )  # fmt: skip
    ranks = [(test["rank"], test["mode"], round(test["accuracy"], 2), test["value"] > 0)
             for test in found.summary["routing"]["tests"]]  # fmt: skip
    assert ranks == [(1, "rationale", 0.5, True), (2, "answer", 0.6, False)]


def test_of_equally_good_modes_the_cheaper_one(make_job: Callable[..., JobResult]) -> None:
    level = {"in_answer_mode": 0.2, "validation": {"rationale": 0.3, "answer": 0.3}}
    arms = find_arms([
        make_job(0, method="sft", **level), make_job(1, method="sft", split="random", **level)
    ])  # fmt: skip
    assert pick_common_mode(*arms) == "answer"


def test_without_validation_numbers_only_a_mode_that_all_chose_is_common(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [
        make_job(k, method="sft", split=split, in_answer_mode=0.2)
        for k, split in enumerate(("entropy", "random"))
    ]
    for job in jobs:
        del job.summary["accuracy"]["validation"]  # type: ignore[index]
    assert pick_common_mode(*find_arms(jobs)) == "rationale"
    jobs[1].summary["accuracy"]["best_mode"]["tuned"] = "answer"  # type: ignore[index]
    assert pick_common_mode(*find_arms(jobs)) is None


def test_other_stages_keep_the_mode_that_belongs_to_them(
    make_job: Callable[..., JobResult],
) -> None:
    both = {"accuracy": 0.6, "in_answer_mode": 0.5}
    one, two = find_arms([
        make_job(0, method="sft", **both, validation={"answer": 0.9, "rationale": 0.1}),
        make_job(1, method="distill", **both, validation={"answer": 0.1, "rationale": 0.2}),
    ])  # fmt: skip
    (pair,) = compare_all([one, two], 0.95)
    assert pair["mode"] is None
    assert pair["value"] == pytest.approx(0.1)


def pair_of(value: float, low: float, high: float, p: float) -> ComparisonPart:
    """Of the settings "cheap" and "taught", as cheap minus taught."""
    return ComparisonPart(
        first="taught", second="cheap", mode=None, value=value, low=low, high=high, n=100, seeds=3,
        only_first=1, only_second=1, p_value=p, p_adjusted=p, clear=p < 0.05 and low > 0,
        detectable=None,
    )  # fmt: skip


def test_only_clear_pairs_are_marked_and_come_first() -> None:
    table = tabulate_comparisons([pair_of(0.1, -0.1, 0.3, 0.9), pair_of(0.2, 0.1, 0.3, 0.001)])
    (clear,), (unclear,) = table.select("Δ, second to first").rows
    assert (clear.text, clear.aside, clear.tag) == ("+20.0 points", "+10.0 to +30.0", "clear")
    assert (unclear.text, unclear.aside, unclear.tag) == ("+10.0 points", "-10.0 to +30.0", "")


def test_a_pair_is_turned_with_its_bounds() -> None:
    turned = subtract("taught", "cheap", [pair_of(-0.10, -0.21, -0.01, 0.2)])
    assert turned is not None
    assert (turned["value"], turned["low"], turned["high"]) == (0.10, 0.01, 0.21)


def test_summary_holds_its_schema_and_counts_savings_by_hand(finished_sweep: Sweep) -> None:
    summary = analyse_sweep(finished_sweep, WRITTEN).summary
    check_part(summary, SweepSummary, "summary")
    assert summary["savings"]["reference"] == "distill, entropy"
    counts = summary["savings"]["counts"]
    routed = "complexity_aware, entropy"
    assert counts["teacher_calls"]["saved"][routed] == pytest.approx(1 - 150 / 600)
    # Half of the epochs on a quarter of the tokens: the paper's way of counting.
    assert counts["trained_rationale_tokens"]["saved"][routed] == pytest.approx(1 - 1 / 8)
    assert counts["unique_rationale_tokens"]["saved"][routed] == pytest.approx(1 - 1 / 4)
    assert summary["routing"]["verdict"] == "yes"
    assert [answer["asked"] for answer in summary["answers"]] == [
        "How should a teacher's budget be spent?",
        "Does entropy routing beat random routing at an equal budget?",
        "Which setting is the most accurate?",
        "Does a cheaper setting keep up with distill, entropy?",
    ]
    assert "No clear winner" in summary["answers"][2]["answer"]


def test_the_time_of_a_job_leaves_out_what_another_run_has_made(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = [make_job(k, method="sft", seed=k) for k in (1, 2)]
    for job, cached in zip(jobs, (False, True), strict=True):
        score, *others = job.finished["stages"]
        score |= {"seconds": 3600.0, "cached": cached}  # type: ignore[typeddict-item]
        job.finished["stages"] = [score, *({**stage, "seconds": 5.0} for stage in others[:2])]
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN).summary
    assert [job["seconds"] for job in found["jobs"]] == [3610, 10]


def test_cut_points_are_drawn_in_the_unit_of_what_was_cut(
    make_job: Callable[..., JobResult],
) -> None:
    cuts = [("answer_entropy", (0.5, 1.5)), ("answer_entropy", (0.9, 1.5)),
            ("rationale_length", (40, 90)), ("rationale_length", (60, 90))]  # fmt: skip
    jobs = [make_job(k, method="complexity_aware", estimator=name, cuts=at, overrides=(f"a.b={k}",))
            for k, (name, at) in enumerate(cuts)]  # fmt: skip
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    figure = draw_sweep(found.summary["arms"])[-1]
    assert [row[2] for row in figure.rows] == [
        "answer entropy, nats"
    ] * 2 + ["length of the teacher's rationale, tokens"] * 2  # fmt: skip


def test_a_folder_in_the_middle_of_its_sweep(sweep_folder: Path) -> None:
    summary: Any = write_sweep_report(sweep_folder)
    assert summary == json.loads((sweep_folder / "summary.json").read_text())
    check_part(summary, SweepSummary, "summary")
    assert summary["counts"] == {"finished": 12, "not finished": 1}
    assert summary["jobs"][2]["accuracy"]["value"] == pytest.approx(0.46)
    assert summary["jobs"][-1]["accuracy"] is None
    html = (sweep_folder / "report.html").read_text(encoding="utf-8")
    assert "1 of 13 jobs are in no number here: 1 not finished." in html
    to_pages = 'href="[^#]'
    assert len(re.findall(to_pages, html)) == 12
    assert len(html) < 3_000_000
    # Again, over its own report, which is not taken for a job.
    next(sweep_folder.glob("0_*/report.html")).unlink()
    html = write_page(sweep_folder)
    assert len(re.findall(to_pages, html)) == 11
    assert "1 of 13 jobs are in no number here" in html


def test_the_tables_as_markdown(sweep_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep_folder), "--markdown"]) == 0
    text = capsys.readouterr().out
    summary = json.loads((sweep_folder / "summary.json").read_text())
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert [table[0].split(" | ")[0] for table in tables] == ["| setting", "| setting", "| setting"]
    for table in tables:
        assert {line.replace("\\|", "").count("|") for line in table} == {table[0].count("|")}
    best = summary["arms"][0]
    assert tables[0][2].startswith("| base model | 20.0% (")
    assert tables[0][3].startswith(f"| {best['name']} | {100 * best['accuracy']['value']:.1f}% (")
    assert "- Jobs: 12 finished of 13" in text
    assert summary["answers"][0]["answer"] in text


def test_jobs_that_only_began_are_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "0_seed=1" / ".hydra").mkdir(parents=True)
    (tmp_path / "0_seed=1" / ".hydra" / "overrides.yaml").write_text("- seed=1\n- 'model=tiny'\n")
    html = write_page(tmp_path)
    assert "Undefined" in html
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["arms"] == []
    assert summary["savings"] is None


def test_a_table_shows_what_became_of_each_job(sweep_folder: Path) -> None:
    def entry(number: int, folder: str, state: str, **more: object) -> dict[str, object]:
        words = folder.split("_")[1:]
        return {"number": number, "folder": folder, "overrides": words, "state": state, **more}

    done = sorted(path.name for path in sweep_folder.iterdir() if path.name.startswith("0_"))
    jobs = [
        entry(0, done[0], "running"),
        entry(1, "1_method=nix", "failed", error="no such <method>"),
        entry(2, "2_method=sft", "waiting"),
    ]
    (sweep_folder / "jobs.json").write_text(json.dumps({"sweep": "mine", "jobs": jobs}))
    html = write_page(sweep_folder)
    summary = json.loads((sweep_folder / "summary.json").read_text())
    assert summary["name"] == "mine"
    assert [job["state"] for job in summary["jobs"]] == ["finished", "failed", "waiting"]
    assert summary["jobs"][1]["error"] == "no such <method>"
    assert "no such &lt;method&gt;" in html


def test_jobs_of_a_config_that_has_changed_are_left_out(
    make_job: Callable[..., JobResult], tmp_path: Path
) -> None:
    entries = []
    for number, (accuracy, state) in enumerate(((0.6, "done"), (0.4, "done"), (0.4, "failed"))):
        job = make_job(number, method="sft", accuracy=accuracy)
        write_job(tmp_path, job if state == "done" else replace(job, summary=None))
        entries.append({"number": number, "folder": job.folder, "overrides": ["seed=1"],
                        "state": state, "superseded": number > 0})  # fmt: skip
    (tmp_path / "jobs.json").write_text(json.dumps({"sweep": "mine", "jobs": entries}))
    html = write_page(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["counts"], summary["superseded"]) == ({"finished": 1}, 2)
    assert [arm["accuracy"]["value"] for arm in summary["arms"]] == [pytest.approx(0.6)]
    assert "2 earlier jobs left out" in html
    assert "runs what is missing" not in html


def test_of_two_equal_jobs_the_one_that_finished_last_counts(
    make_job: Callable[..., JobResult],
) -> None:
    new, old = (make_job(k, method="sft", accuracy=value) for k, value in enumerate((0.6, 0.4)))
    new.summary["run"]["finished"] = "2026-11-25T10:00:00+00:00"  # type: ignore[index]
    old.summary["run"]["finished"] = "2026-11-25T10:00:00+02:00"  # type: ignore[index]
    found = analyse_sweep(Sweep(name="x", jobs=[new, old]), WRITTEN)
    assert [arm["accuracy"]["value"] for arm in found.summary["arms"]] == [pytest.approx(0.6)]
    assert any("1 job left out: another one" in warning for warning in found.summary["warnings"])


def test_a_sweep_without_a_finished_job_says_how_far_its_jobs_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = ("stopped", "not started", "not started")
    jobs = [{"number": n, "folder": f"{n}", "state": state} for n, state in enumerate(states)]
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": jobs}))
    assert main([str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "0 of 3 jobs are done (1 stopped, 2 not started). Its command, given again, runs" in said
    assert "Undefined" not in said
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": jobs[:1]}))
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("0 of 1 job is done (1 stopped). ")


@pytest.mark.parametrize("table", [True, False], ids=["sweep", "separate runs"])
def test_answers_of_a_part_of_the_jobs_say_so(
    make_job: Callable[..., JobResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    table: bool,
) -> None:
    whole = make_job(0, method="sft", accuracy=0.6)
    cut = replace(make_job(1, method="sft", seed=2), summary=None)
    for job in (whole, cut):
        write_job(tmp_path, job)
    if table:
        jobs = [
            {"number": job.number, "folder": job.folder, "state": state}
            for job, state in ((whole, "done"), (cut, "failed"))
        ]
        (tmp_path / "jobs.json").write_text(json.dumps({"jobs": jobs}))
    assert main([str(tmp_path)]) == 0
    state = "failed" if table else "not finished"
    first = f"1 of 2 jobs are done (1 {state}). Its command, given again, runs what is missing."
    answers = list_answers(json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")))
    assert " ".join(capsys.readouterr().out.split()).startswith(f"{first} ")
    assert answers[0] == first
    assert any(answer.startswith("Which setting is the most accurate?") for answer in answers)


def test_a_folder_without_jobs_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="holds no job of a sweep"):
        write_sweep_report(tmp_path)
    (tmp_path / "multirun" / "mine").mkdir(parents=True)
    (tmp_path / "multirun" / "mine" / "jobs.json").write_text("{}")
    with pytest.raises(UserError, match=r"above its jobs; below it: .*multirun/mine$"):
        write_sweep_report(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("run.log", "report.html"):
        (tmp_path / "run" / name).touch()
    with pytest.raises(UserError, match=r"is one run, and its page is there: .*run/report\.html; "):
        write_sweep_report(tmp_path / "run")
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_sweep_leaves_the_predictions_that_judge_it_again(
    tmp_path: Path, make_sweep: Callable[[Path], Path], finished_sweep: Sweep
) -> None:
    summary = write_sweep_report(make_sweep(tmp_path))
    arms = read_predictions(tmp_path)
    assert [
        (arm.name, arm.seeds, pytest.approx(arm.accuracy), arm.bill, set(arm.test_tokens.values()))
        for arm in arms
    ] == [
        (arm["name"], arm["seeds"], arm["accuracy"]["value"], arm["cost"]["teacher_tokens"],
         {(7.0 * 300, 300)})
        for arm in summary["arms"]
    ]  # fmt: skip
    found = judge_predictions(arms)
    ours = {frozenset((pair["first"], pair["second"])): pair for pair in summary["comparisons"]}
    for pair in found.comparisons:
        other = ours[frozenset((pair["first"], pair["second"]))]
        assert pair["p_value"] == pytest.approx(other["p_value"])
        assert abs(pair["value"]) == pytest.approx(abs(other["value"]))
    assert len(found.comparisons) == len(ours) == 6


def test_a_sweep_without_an_answer_leaves_no_predictions(tmp_path: Path) -> None:
    write_job(tmp_path, JobResult(number=0, folder="0_seed=1", state="not finished"))
    write_sweep_report(tmp_path)
    assert not (tmp_path / "predictions.parquet").exists()


def test_a_job_whose_numbers_have_changed_since_is_in_none(
    tmp_path: Path, make_sweep: Callable[[Path], Path]
) -> None:
    folder = make_sweep(tmp_path)
    job = next(path.parent for path in sorted(folder.glob("*/summary.json")))
    write_sums(job, ["summary.json"])
    assert read_sweep(folder).jobs[0].summary is not None
    text = (job / "summary.json").read_text()
    (job / "summary.json").write_text(text.replace("0", "1", 1))
    (changed,) = (each for each in read_sweep(folder).jobs if each.folder == job.name)
    assert (changed.summary, changed.state, changed.error) == (
        None, "not finished", "summary.json is not what the run left"
    )  # fmt: skip

"""How a budget should be spent: the four answers, on the page, in Markdown and in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_sample import write_job

from caft.records import Judgement, Rationale
from caft.report.__main__ import main
from caft.report.run.cost import count_cost
from caft.report.sweep import JobResult, Sweep, analyse_sweep, write_sweep_report
from caft.report.sweep.allocation import advise_allocation
from caft.report.sweep.arms import find_arms
from caft.report.sweep.page import render_sweep
from caft.report.sweep.summary import SweepResults, list_answers, write_head
from caft.report.wording import points_between

WRITTEN = "2026-11-26T10:00:00+00:00"
Make = Callable[..., JobResult]
CONTROLS: list[dict[str, Any]] = [
    {"split": "random", "overrides": ("split.match=calls",), "tokens": 58},
    {"split": "random", "overrides": ("split.match=tokens",), "rationales": 180, "tokens": 50},
]


def make_jobs(make_job: Make, *arms: dict[str, Any], seeds: int = 3) -> list[JobResult]:
    return [
        make_job(10 * place + seed, method="complexity_aware", seed=seed, **arm)
        for place, arm in enumerate(arms)
        for seed in range(1, seeds + 1)
    ]


def analyse(jobs: list[JobResult]) -> SweepResults:
    return analyse_sweep(Sweep(name="x", jobs=jobs, question="Which questions?"), WRITTEN)


@pytest.fixture(scope="module")
def won(make_job: Make) -> SweepResults:
    """Two rules that beat both controls, and one that only is a little better."""
    sampled = {"split": "sampled_0.1", "overrides": ("split.temperature=0.1",)}
    arms = ({"accuracy": 0.66}, {**sampled, "accuracy": 0.7},
            {"accuracy": 0.52, "overrides": ("split.within=subject",)})  # fmt: skip
    controls = ({**control, "accuracy": 0.5} for control in CONTROLS)
    return analyse(make_jobs(make_job, *arms, *controls))


def test_the_most_accurate_arm_that_beats_every_control_is_advised(won: SweepResults) -> None:
    found = won.summary["allocation"]
    name = "sampled_0.1, split.temperature=0.1"
    assert (found["verdict"], found["arm"]) == ("yes", name)
    assert found["sentence"].startswith(
        f"Spend your budget like this: complexity_aware, {name}. With 21k teacher tokens"
    )
    assert "entropy beat random routing, too." in found["sentence"]
    assert found["sentence"] == won.summary["answers"][0]["answer"]
    # The sentence has the control that supports it least, with its bounds of all six tests.
    tests = [test for test in won.summary["routing"]["tests"] if test["second"] == name]
    assert [test["equal_in"] for test in tests] == [["teacher calls"], ["teacher tokens"]]
    weakest = min(tests, key=lambda test: test["low"])
    assert (
        f"{100 * weakest['value']:+.1f} points ({100 * weakest['low']:+.1f} to"
        in (found["sentence"])
    )


@pytest.mark.parametrize(
    ("estimator", "asked", "told"),
    [
        ("judge_steps", 1400, "1,400 judge calls, on top of its budget"),
        ("option_entropy_gain", 600, "600 teacher calls, whose tokens are in its budget"),
        # A teacher in memory is read, not asked; a judge that also was asked sorted nothing.
        ("entropy_gain", 0, ""),
        ("answer_entropy", 1400, ""),
        ("judge_steps", 0, ""),
    ],
)
def test_calls_for_an_estimate_are_told_with_their_place_in_the_budget(
    make_job: Make, estimator: str, asked: int, told: str
) -> None:
    routed = {"accuracy": 0.66, "estimator": estimator}
    jobs = make_jobs(make_job, routed, {**CONTROLS[0], "accuracy": 0.5})
    judge = estimator if told else "judge_steps"
    for job in jobs:
        calls = 0 if job.finished["split"]["strategy"] == "random" else asked
        job.finished["cost"] |= count_what_was_bought(job.kept, judge, calls)
    found = analyse(jobs).summary
    assert found["allocation"]["verdict"] == "yes"
    routing = found["routing"]["others"] or [found["routing"]]
    words = "Random routing needs none of the calls for an estimate: entropy"
    for text in (found["allocation"]["sentence"], routing[0]["sentence"]):
        assert (f"{words} ({told})." in text) == bool(told)
    # The two answers have it: a caveat would be the third on one page.
    assert words not in " ".join(found["warnings"])
    # 150 rationales of 80 + 60 tokens; a call for log-probabilities has 120 + 1.
    budget = "93.6k" if "in its budget" in told else "21k"
    assert f"With {budget} teacher tokens" in found["allocation"]["sentence"]


def count_what_was_bought(rationales: int, estimator: str, calls: int) -> dict[str, Any]:
    """The part of a run's cost that its teacher and judge were paid for."""
    replies = [
        Rationale(question_id=f"t{k}", text="", answer=None, agrees=True, refusal="",
                  prompt_tokens=80, completion_tokens=60)
        for k in range(rationales)
    ]  # fmt: skip
    judgements = [
        Judgement(question_id=f"t{k}", estimator=estimator, value=0.5, text="",
                  prompt_tokens=120, completion_tokens=1)
        for k in range(calls)
    ]  # fmt: skip
    cost = count_cost(replies, [], [], judgements)
    return {key: number for key, number in cost.items() if key.startswith(("teacher_", "judge_"))}


def test_arms_are_ranked_under_each_control_by_bounds_that_hold_together(won: SweepResults) -> None:
    tests = won.summary["routing"]["tests"]
    assert [test["rank"] for test in tests] == [1, 2, 3, 1, 2, 3]
    shown = [test["accuracy"] for test in tests]
    assert shown == pytest.approx([0.7, 0.66, 0.52] * 2)
    alone = {(pair["first"], pair["second"]): pair for pair in won.summary["comparisons"]}
    for test in tests:
        pair = alone.get((test["first"], test["second"])) or alone[test["second"], test["first"]]
        assert test["high"] - test["low"] > 1.1 * (pair["high"] - pair["low"])
        # 80% power: between one and two half-widths away from 0.
        half = (test["high"] - test["low"]) / 2
        assert test["detectable"] is not None
        assert half < test["detectable"] < 2 * half


def test_where_every_gain_is_ruled_out_random_questions_are_the_advice(make_job: Make) -> None:
    arms = ({"accuracy": 0.45}, {**CONTROLS[0], "accuracy": 0.6})
    found = analyse(make_jobs(make_job, *arms)).summary["allocation"]
    assert (found["verdict"], found["arm"]) == ("no", None)
    assert found["sentence"].startswith(
        "Nothing here beat random routing: ask random questions, the cheapest rule. "
    )


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (0.63, "leave no gain above {:.1f} points over all controls of a setting."),
        # "No gain above -6.0 points" would be read as one of up to 6.
        (0.7, "put every setting {:.1f} points or more below one of its controls."),
    ],
)
def test_a_gain_is_ruled_out_by_the_control_that_refutes_it(
    make_job: Make, tokens: float, told: str
) -> None:
    """Equal calls favour routing by difficulty, so that a gain over them alone is none."""
    controls = ({**control, "accuracy": share} for control, share in
                zip(CONTROLS, (0.5, tokens), strict=True))  # fmt: skip
    found = analyse(make_jobs(make_job, {"accuracy": 0.6}, *controls)).summary
    tests = found["routing"]["tests"]
    assert [test["verdict"] for test in tests] == ["yes", "no"]
    low = min(100 * test["high"] for test in tests)
    assert (low > 0) == (tokens == 0.63)
    sentence = found["allocation"]["sentence"]
    assert sentence.startswith("Nothing here beat every random control: ask random questions")
    assert sentence.endswith(told.format(abs(low)))


@pytest.mark.parametrize("high", [0.0, -0.0, -0.0003, 0.0003])
def test_a_bound_that_rounds_to_zero_leaves_no_gain(high: float) -> None:
    tests: Any = [
        {"first": "random", "second": name, "verdict": "no", "value": high - 0.1,
         "low": high - 0.2, "high": bound}
        for name, bound in (("entropy", high), ("behind", -0.2))
    ]  # fmt: skip
    part, _ = advise_allocation([], tests, 0.95)
    assert part["verdict"] == "no"
    assert part["sentence"].endswith("hold together, leave no gain above 0.0 points.")


def test_what_is_open_is_no_most_where_the_setting_is_behind(make_job: Make) -> None:
    jobs = make_jobs(make_job, {"accuracy": 0.3}, {**CONTROLS[0], "accuracy": 0.6}, seeds=2)
    found = analyse(jobs)
    (test,) = found.summary["routing"]["tests"]
    assert test["high"] < 0
    assert found.answers[0].figure == f"{points_between(test)} against random"


def test_what_could_have_been_seen_is_said_where_nothing_is(make_job: Make) -> None:
    jobs = make_jobs(make_job, {"accuracy": 0.51}, {**CONTROLS[0], "accuracy": 0.5})
    found = analyse(jobs).summary
    (test,) = found["routing"]["tests"]
    assert test["detectable"] is not None
    assert found["allocation"]["verdict"] == "not enough data"
    assert found["allocation"]["sentence"].startswith(
        "Not enough data: this sweep could have seen a difference of "
        f"{100 * test['detectable']:.1f} points. That is the minimum detectable difference"
    )
    # Two seeds say nothing about others, however many questions there are.
    few = analyse([job for job in jobs if job.seed < 3]).summary["allocation"]["sentence"]
    assert few.startswith("Not enough data: fewer than 3 seeds a setting.")
    # Where all replies are alike nothing is known to be detectable, least of all 0.0 points.
    alike, _ = advise_allocation(find_arms(jobs), [
        {**test, "detectable": None, "only_first": 0, "only_second": 0}
    ], 0.95)  # fmt: skip
    noisy, _ = advise_allocation(find_arms(jobs), [{**test, "detectable": None}], 0.95)
    assert noisy["sentence"].startswith("Not enough data: this sweep could not have seen any")
    assert alike["sentence"].startswith("Not enough data: the settings were right on the same")
    arms = find_arms([job for job in jobs if not job.finished["split"]["thresholds"]])  # type: ignore[index]
    nothing, head = advise_allocation(arms, [], 0.95)
    assert nothing["verdict"] == "undefined"
    assert head.detail.startswith("No evaluated job routes by entropy")


def test_page_markdown_and_terminal_say_the_same(
    won: SweepResults, make_job: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = render_sweep(won)
    assert "Spend your budget like this: complexity_aware, sampled_0.1" in page
    assert "<h1>Which questions?</h1>" in page
    for job in make_jobs(make_job, {"accuracy": 0.45}, {**CONTROLS[0], "accuracy": 0.6}):
        write_job(tmp_path, job)
    summary = write_sweep_report(tmp_path)
    for more in ([], ["--markdown"]):
        assert main([str(tmp_path), *more]) == 0
        printed = " ".join(capsys.readouterr().out.replace("**", "").split())
        answers = list_answers(summary)
        assert [answer for answer in answers if answer in printed] == answers
        assert answers[0].startswith("How should a teacher's budget be spent? ")
    model, data = won.summary["origin"]["models"][0], won.summary["origin"]["datasets"][0]
    assert write_head(summary).endswith(f" ({model}; {data}; 300 test questions)")


def test_the_head_of_a_sweep_without_results_is_its_name(make_job: Make, tmp_path: Path) -> None:
    write_job(tmp_path, replace(make_job(0, method="sft"), summary=None))
    assert write_head(write_sweep_report(tmp_path)) == tmp_path.name


def test_a_saving_is_claimed_by_non_inferiority_alone(make_job: Make) -> None:
    def judge(accuracy: float, seeds: int = 3) -> tuple[Any, Any]:
        costly = {"accuracy": accuracy, "overrides": ("a.b=1",), "rationales": 600}
        found = analyse(make_jobs(make_job, {"accuracy": 0.6}, costly, seeds=seeds)).summary
        assert found["savings"] is not None
        return found["savings"]["losses"], found["answers"][-1]["answer"]

    (loss,), answer = judge(0.5)
    assert loss["verdict"] == "yes"
    assert loss["high"] < 0.02
    assert answer.startswith("Yes: complexity_aware")
    assert "A loss of 2 points or more is ruled out" in answer
    assert "unique rationale tokens 75.0%" in answer
    # No loss is shown, and a loss of two points is not ruled out.
    (loss,), answer = judge(0.61)
    assert loss["low"] < 0
    assert loss["high"] > 0.02
    assert (loss["verdict"], answer[:15]) == ("not enough data", "Not enough data")
    (loss,), answer = judge(0.8)
    assert (loss["verdict"], answer[:3]) == ("no", "No.")
    (loss,), answer = judge(0.5, seeds=2)
    assert loss["verdict"] == "not enough data"
    assert "fewer than 3 seeds" in answer

"""A cheaper setting is set against one of its own model and test questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from caft.report.headlines import find_headlines
from caft.report.sweep.figures import draw_sweep
from caft.report.sweep.job_results import JobResult, Sweep
from caft.report.sweep.markdown import write_markdown
from caft.report.sweep.page import render_sweep
from caft.report.sweep.summary import SweepResults, analyse_sweep
from caft.report.sweep.tables import tabulate_arms, tabulate_jobs, tabulate_savings

MakeJob = Callable[..., JobResult]
ACCURACIES = {
    "small": {"sft": 0.3, "distill": 0.4},
    "large": {"sft": 0.7, "distill": 0.6},
}


def of_model(job: JobResult, name: str) -> JobResult:
    """Models of one id may differ in their settings, as the tiny ones do."""
    summary = job.finished | {"model": {**job.finished["model"], "id": name}}
    return replace(job, summary=summary)  # type: ignore[arg-type]


def compare(make_job: MakeJob, *, same_id: bool, by_method: bool = False) -> SweepResults:
    settings = [
        (model, method, share)
        for model, of_method in ACCURACIES.items()
        for method, share in of_method.items()
    ]
    settings.sort(key=lambda each: each[1] if by_method else "")
    jobs = [
        make_job(10 * place + seed, method=method, seed=seed, accuracy=share,
                 overrides=(f"model={model}",))
        for place, (model, method, share) in enumerate(settings)
        for seed in (1, 2, 3)
    ]  # fmt: skip
    models = ["tiny" if same_id else job.overrides[-1] for job in jobs]
    jobs = [of_model(job, name) for job, name in zip(jobs, models, strict=True)]
    return analyse_sweep(Sweep(name="x", jobs=jobs), "2026-11-24T10:00:00+00:00")


def test_the_order_of_the_jobs_changes_no_loss(make_job: MakeJob) -> None:
    losses = []
    for by_method in (False, True):
        savings = compare(make_job, same_id=False, by_method=by_method).summary["savings"]
        assert savings is not None
        losses.append({loss["arm"]: loss["value"] for loss in savings["losses"]})
    assert losses[0] == pytest.approx(losses[1]) == {"sft, small": 0.1, "sft, large": -0.1}


@pytest.mark.parametrize("same_id", [True, False])
def test_no_setting_keeps_up_with_one_of_another_model(make_job: MakeJob, same_id: bool) -> None:
    found = compare(make_job, same_id=same_id)
    savings = found.summary["savings"]
    assert savings is not None
    assert savings["references"] == {
        "sft, small": "distill, small",
        "distill, small": "distill, small",
        "sft, large": "distill, large",
        "distill, large": "distill, large",
    }
    assert {loss["arm"]: loss["verdict"] for loss in savings["losses"]} == {
        "sft, small": "no", "sft, large": "yes"}  # fmt: skip
    saved = savings["counts"]["train_flops"]["saved"]
    assert (saved["distill, small"], saved["distill, large"]) == (0, 0)
    answers = {item["asked"]: item["answer"] for item in found.summary["answers"][-2:]}
    assert answers["Does a cheaper setting keep up with distill, small?"].startswith("No.")
    assert answers["Does a cheaper setting keep up with distill, large?"].startswith(
        "Yes: sft, large."
    )
    page = render_sweep(found)
    assert "<bdi>distill, small</bdi> or <bdi>distill, large</bdi>, whichever has" in page
    text = write_markdown(found.summary, [])
    assert "to distill, small; and distill, large, by model and test questions, and its" in text


def test_other_test_questions_have_a_reference_of_their_own(make_job: MakeJob) -> None:
    settings = [(method, name) for name in ("a", "b") for method in ("sft", "distill")]
    jobs = [
        make_job(k, method=method, overrides=(f"dataset={name}",))
        for k, (method, name) in enumerate(settings)
    ]
    for job in jobs[2:]:
        job.finished["dataset"]["test_fingerprint"] = "b"
    savings = analyse_sweep(Sweep(name="x", jobs=jobs), "2026-11-24T10:00:00+00:00").summary[
        "savings"
    ]
    assert savings is not None
    assert savings["references"]["sft, b"] == "distill, b"
    assert [loss["arm"] for loss in savings["losses"]] == ["sft, a", "sft, b"]


def test_a_method_is_the_reference_by_what_it_trains(make_job: MakeJob) -> None:
    """A copy of distill under another name, beside one that is taught more of something else."""
    jobs = [
        make_job(k, method=method, rationales=kept)
        for k, (method, kept) in enumerate((("distill", 500), ("complexity_aware", 600)))
    ]
    jobs[0].finished["method"]["name"] = "all_by_rationale"
    jobs.append(make_job(2, method="sft", overrides=("tuned=no",)))
    jobs[2].finished["method"]["stages"] = []  # the base model alone, which distils nothing
    found = analyse_sweep(Sweep(name="x", jobs=jobs), "2026-11-24T10:00:00+00:00").summary
    assert found["savings"] is not None
    assert set(found["savings"]["references"].values()) == {"distill"}


def test_what_a_student_draws_itself_is_not_free(make_job: MakeJob) -> None:
    """No teacher is paid for it, but each run of self_taught draws thousands of chains."""
    jobs = [make_job(0, method="sft"), make_job(1, method="distill")]
    name = "tokens of own chains"
    for drawn in (0, 192_000):
        jobs[0].finished["cost"] |= {"own_rationale_tries": 4 * bool(drawn),
                                     "own_rationale_tokens": drawn}  # fmt: skip
        found = analyse_sweep(Sweep(name="x", jobs=jobs), "2026-11-24T10:00:00+00:00")
        told = [name in text for text in (write_markdown(found.summary, []), render_sweep(found))]
        assert told == [bool(drawn)] * 2
        assert [arm["cost"]["own_rationale_tokens"] for arm in found.summary["arms"]] == [drawn, 0]
    savings = found.summary["savings"]
    assert savings is not None
    assert savings["counts"]["own_rationale_tokens"] == {
        "name": name,
        "amounts": {"sft": 192_000, "distill": 0},
        "saved": {"sft": None, "distill": None},
    }
    rows = tabulate_savings(savings, found.summary["arms"]).texts
    assert [row[name] for row in rows] == ["192k", "0"]


def test_the_money_of_a_judge_is_money_of_the_setting(make_job: MakeJob) -> None:
    jobs = [make_job(0, method="sft"), make_job(1, method="distill")]
    jobs[0].finished["cost"] |= {"teacher_usd": 0.0, "judge_calls": 1400, "judge_usd": 5.0}
    found = analyse_sweep(Sweep(name="x", jobs=jobs), "").summary
    savings = found["savings"]
    assert savings is not None
    shown = [
        tabulate_jobs(found["jobs"], {}).texts[0]["USD"],
        tabulate_arms(found["arms"]).texts[0]["USD"],
        tabulate_savings(savings, found["arms"]).texts[0]["USD"].split()[0],
    ]
    assert shown == ["$5.00"] * 3
    assert find_headlines(jobs[0].finished)[-1].figure.startswith("$5.00")
    # Readers of this key find the teacher's money alone.
    assert found["arms"][0]["cost"]["teacher_usd"] == 0
    assert "cost, USD" in "".join(figure.panels[-1] for figure in draw_sweep(found["arms"]))

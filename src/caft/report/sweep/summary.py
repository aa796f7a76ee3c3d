"""A sweep's results over all jobs, and its summary.json. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from caft.report.comparison import DEFAULT_CONFIDENCE, as_interval
from caft.report.headlines import UNDEFINED, Headline
from caft.report.run.timing import count_seconds
from caft.report.schema import as_share
from caft.report.sweep.allocation import advise_allocation
from caft.report.sweep.answers import find_answers, find_sweep_warnings
from caft.report.sweep.arms import Arm, count_of_cost, find_arms
from caft.report.sweep.comparisons import compare_all, outcomes_by_seed
from caft.report.sweep.forgetting import find_forgetting
from caft.report.sweep.job_results import (
    FINISHED,
    JobResult,
    Sweep,
    explain_missing,
    varying_settings,
)
from caft.report.sweep.origin import describe_origin, find_bases, gather_warnings
from caft.report.sweep.routing import answer_routing
from caft.report.sweep.savings import WAYS_OF_COUNTING, count_savings
from caft.report.sweep.schema import ArmPart, JobPart, SweepSummary
from caft.report.wording import count_of
from caft.statistics import mean_interval, mean_over_seeds, resample_means

_COSTS = (*WAYS_OF_COUNTING, "trained_response_tokens", "rationales_kept", "teacher_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResults:
    """A sweep's summary, and what else its page shows. `address_of`: the jobs' pages by folder.

    The first of `answers` is how the budget should be spent.
    """

    summary: SweepSummary
    answers: Sequence[Headline]
    address_of: Mapping[str, str]


def analyse_sweep(sweep: Sweep, written: str) -> SweepResults:
    """Compare what is finished; a sweep without any evaluated job has empty parts.

    `written` is the time, ISO 8601 with an offset.
    """
    arms = find_arms(sweep.jobs)
    accuracies = [accuracy for arm in arms if (accuracy := arm.first["accuracy"])]
    stated = [accuracy.get("confidence", DEFAULT_CONFIDENCE) for accuracy in accuracies]
    confidence = float(max(stated, default=DEFAULT_CONFIDENCE))
    comparisons = compare_all(arms, confidence)
    routing = answer_routing(arms, confidence)
    savings = count_savings(arms, confidence)
    allocation, advice = advise_allocation(arms, routing["tests"], confidence)
    answers = [advice, *find_answers(arms, comparisons, routing, savings)]
    arm_of = {job.folder: arm.name for arm in arms for job in arm.jobs}
    summary: SweepSummary = {
        "schema": 1,
        "kind": "sweep",
        "name": sweep.name,
        "question": sweep.question,
        "written": written,
        "confidence": confidence,
        "superseded": sweep.superseded,
        "counts": dict(Counter(job.state for job in sweep.jobs)),
        "origin": describe_origin(sweep.jobs),
        "warnings": [
            *find_sweep_warnings(sweep, arms, routing["tests"]),
            *gather_warnings(sweep.jobs),
        ],
        "jobs": [
            _describe_job(job, settings, arm_of.get(job.folder))
            for job, settings in zip(sweep.jobs, varying_settings(sweep.jobs), strict=True)
        ],
        "bases": find_bases(sweep.jobs, confidence),
        "arms": [_describe_arm(arm, confidence) for arm in arms],
        "comparisons": comparisons,
        "routing": routing,
        "allocation": allocation,
        "savings": savings,
        "answers": [
            {"asked": found.asked, "answer": f"{found.answer}. {found.detail}"} for found in answers
        ],
    }
    if forgetting := find_forgetting(arms, confidence):
        summary["forgetting"] = forgetting
    return SweepResults(
        summary=summary,
        answers=answers,
        address_of={job.folder: f"{quote(job.folder, errors='replace')}/report.html"
                    for job in sweep.jobs if job.has_page},
    )  # fmt: skip


def _describe_job(job: JobResult, settings: dict[str, str], arm: str | None) -> JobPart:
    summary, result = job.summary, job.result
    score = summary and summary["score"]
    return {
        "number": job.number,
        "folder": job.folder,
        "state": job.state,
        "error": job.error,
        "settings": settings,
        "seed": job.seed if summary else None,
        "arm": arm,
        "mode": job.mode,
        "accuracy": as_share(as_interval(result)) if result else None,
        "roc_auc": score["roc_auc"].get(score["estimator"]) if score else None,
        "cost": {key: count_of_cost(job, key) for key in _COSTS} if summary else None,
        "seconds": count_seconds(summary["stages"]) if summary else None,
    }


def _describe_arm(arm: Arm, confidence: float) -> ArmPart:
    """An arm with its intervals, the accuracy of every mode, and its mean cost."""
    over_seeds = mean_over_seeds(arm.shares, confidence)
    resampled = resample_means({arm.name: [*outcomes_by_seed(arm).values()]})[arm.name]
    spent = [job.result["generated_tokens"] / job.result["n"] for job in arm.jobs if job.result]
    split = arm.first["split"]
    by_mode: dict[str, list[float]] = {}
    for job in arm.jobs:
        for mode, result in job.results.items():
            by_mode.setdefault(mode, []).append(result["value"])
    return {
        "name": arm.name,
        "settings": dict(arm.settings),
        "strategy": arm.strategy,
        "estimator": arm.estimator,
        "method": arm.first["method"]["name"],
        "seeds": arm.seeds,
        "modes": arm.modes,
        "accuracy": as_share(mean_interval(resampled, confidence)),
        "over_seeds": as_share(over_seeds) if over_seeds else None,
        "by_mode": {mode: sum(shares) / len(shares) for mode, shares in by_mode.items()},
        "tokens_a_question": float(sum(spent) / len(spent)),
        "thresholds": split["thresholds"] if split else [],
        "trained": arm.trained,
        "by_class": arm.by_class,
        "cost": {key: arm.mean_cost(key) for key in _COSTS},
    }


def list_answers(summary: SweepSummary) -> list[str]:
    """What is missing, and what the sweep asks and has answered."""
    found = [part for part in summary["answers"] if not part["answer"].startswith(UNDEFINED)]
    answers = [f"{part['asked']} {part['answer']}" for part in found if summary["arms"]]
    return [*list_progress(summary), *answers]


def list_progress(summary: SweepSummary) -> list[str]:
    """How many jobs are done, and what brings the others; empty where all are in the answers."""
    missing = [f"{n} {state}" for state, n in summary["counts"].items() if state != FINISHED]
    if not missing:
        return [] if summary["arms"] else ["No job has been evaluated."]
    done = summary["counts"].get(FINISHED, 0)
    total = len(summary["jobs"])
    verb = "is" if total == 1 else "are"
    jobs = f"{done} of {count_of(total, 'job')} {verb} done ({', '.join(missing)})."
    return [f"{jobs} {explain_missing(summary['jobs'])}"]


def write_head(summary: SweepSummary) -> str:
    """What the sweep asks, and of which models and data, as its page's head says it."""
    origin = summary["origin"]
    tested = " or ".join(f"{count:,}" for count in origin["test_questions"])
    parts = [", ".join(origin["models"]), ", ".join(origin["datasets"])]
    parts += [f"{tested} test questions"] if tested else []
    tail = "; ".join(filter(None, parts))
    return (summary["question"] or summary["name"]) + (f" ({tail})" if tail else "")

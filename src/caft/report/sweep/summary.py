"""A sweep's summary.json from its jobs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caft.report.comparison import DEFAULT_CONFIDENCE
from caft.report.headlines import Headline, main_area
from caft.report.sweep.answers import find_answers, find_sweep_warnings
from caft.report.sweep.arms import Arm, count_of_cost, find_arms
from caft.report.sweep.comparisons import ArmComparison, compare_all, outcome_rows
from caft.report.sweep.job_results import JobResult, Sweep, varying_settings
from caft.report.sweep.routing import RoutingAnswer, answer_routing
from caft.report.sweep.savings import WAYS_OF_COUNTING, Saving, count_savings, pick_reference
from caft.statistics import Interval, mean_interval, mean_over_seeds, resample_means

_COSTS = (*(key for key, _ in WAYS_OF_COUNTING), "trained_response_tokens", "rationales_kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResults:
    """Everything that a sweep's jobs say together."""

    sweep: Sweep
    arms: Sequence[Arm]
    comparisons: Sequence[ArmComparison]
    routing: Sequence[RoutingAnswer]
    reference: Arm | None
    savings: Sequence[Saving]
    answers: Sequence[Headline]
    warnings: Sequence[str]
    confidence: float


def examine_sweep(sweep: Sweep) -> SweepResults:
    """Compare what is finished; a sweep without any evaluated job has empty parts."""
    arms = find_arms(sweep.jobs)
    confidence = _confidence(arms)
    comparisons = compare_all(arms, confidence)
    routing = answer_routing(arms, confidence)
    reference = pick_reference(arms)
    savings = count_savings(arms, reference) if reference else []
    return SweepResults(
        sweep=sweep,
        arms=arms,
        comparisons=comparisons,
        routing=routing,
        reference=reference,
        savings=savings,
        answers=find_answers(arms, comparisons, routing, savings),
        warnings=find_sweep_warnings(sweep, arms),
        confidence=confidence,
    )


def _confidence(arms: Sequence[Arm]) -> float:
    stated = [arm.first["accuracy"].get("confidence", DEFAULT_CONFIDENCE) for arm in arms]
    return float(max(stated, default=DEFAULT_CONFIDENCE))


def summarise_sweep(found: SweepResults, written: str) -> dict[str, Any]:
    """The keys of `schema.SweepSummary`; `written` is the time, ISO 8601 with an offset."""
    sweep = found.sweep
    return {
        "schema": 1,
        "kind": "sweep",
        "name": sweep.name,
        "question": sweep.question,
        "written": written,
        "confidence": found.confidence,
        "superseded": sweep.superseded,
        "counts": dict(Counter(job.state for job in sweep.jobs)),
        "jobs": _describe_jobs(found),
        "arms": [describe_arm(arm, found.confidence) for arm in found.arms],
        "comparisons": [_describe_comparison(pair) for pair in found.comparisons],
        "routing": _describe_routing(found.routing),
        "savings": _describe_savings(found),
        "answers": [
            {"asked": finding.asked, "answer": f"{finding.answer}. {finding.detail}"}
            for finding in found.answers
        ],
    }


def _describe_jobs(found: SweepResults) -> list[dict[str, Any]]:
    arm_of = {job.folder: arm.name for arm in found.arms for job in arm.jobs}
    jobs = found.sweep.jobs
    return [
        _describe_job(job, settings, arm_of.get(job.folder))
        for job, settings in zip(jobs, varying_settings(jobs), strict=True)
    ]


def _describe_job(job: JobResult, settings: dict[str, str], arm: str | None) -> dict[str, Any]:
    summary, result = job.summary, job.result
    share = {key: result[key] for key in ("value", "low", "high", "n")} if result else None
    return {
        "number": job.number,
        "folder": job.folder,
        "state": job.state,
        "error": job.error,
        "settings": settings,
        "seed": job.seed if summary else None,
        "arm": arm,
        "mode": job.mode,
        "accuracy": share,
        "roc_auc": main_area(summary.get("score")) if summary else None,
        "cost": {key: count_of_cost(job, key) for key in _COSTS} if summary else None,
        "seconds": sum(stage["seconds"] for stage in summary["stages"]) if summary else None,
    }


def describe_arm(arm: Arm, confidence: float) -> dict[str, Any]:
    """An arm with its intervals, the accuracy of every mode, and its mean cost."""
    over_seeds = mean_over_seeds(arm.shares, confidence)
    return {
        "name": arm.name,
        "settings": dict(arm.settings),
        "strategy": arm.strategy,
        "estimator": arm.estimator,
        "method": arm.first["method"]["name"],
        "seeds": arm.seeds,
        "modes": arm.modes,
        "accuracy": _as_share(_over_questions_and_seeds(arm, confidence)),
        "over_seeds": _as_share(over_seeds) if over_seeds else None,
        "by_mode": _accuracy_by_mode(arm),
        "tokens_a_question": _tokens_a_question(arm),
        "thresholds": list((arm.first.get("split") or {}).get("thresholds", [])),
        "cost": {key: arm.mean_cost(key) for key in _COSTS},
    }


def _over_questions_and_seeds(arm: Arm, confidence: float) -> Interval:
    resampled = resample_means({arm.name: outcome_rows(arm)})
    return mean_interval(resampled[arm.name], confidence)


def _as_share(interval: Interval) -> dict[str, Any]:
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
    }


def _accuracy_by_mode(arm: Arm) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for job in arm.jobs:
        for mode, result in job.results.items():
            values.setdefault(mode, []).append(result["value"])
    return {mode: sum(shares) / len(shares) for mode, shares in values.items()}


def _tokens_a_question(arm: Arm) -> float:
    spent = [job.result["generated_tokens"] / job.result["n"] for job in arm.jobs if job.result]
    return float(sum(spent) / len(spent))


def _describe_comparison(pair: ArmComparison) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "mode": pair.mode,
        **_as_share(pair.difference),
        "seeds": pair.seeds,
        "only_first": pair.only_first,
        "only_second": pair.only_second,
        "p_value": pair.p_value,
        "p_adjusted": pair.p_adjusted,
        "clear": pair.clear,
        "detectable": pair.detectable,
    }


def _describe_routing(routing: Sequence[RoutingAnswer]) -> dict[str, Any]:
    of_entropy, *others = routing
    return {
        "verdict": of_entropy.verdict.value,
        "sentence": of_entropy.sentence,
        "others": [
            {
                "estimator": answer.estimator,
                "verdict": answer.verdict.value,
                "sentence": answer.sentence,
            }
            for answer in others
        ],
        "tests": [
            {
                **_describe_comparison(test.comparison),
                "strategy": test.strategy,
                "estimator": test.estimator,
                "equal_in": list(test.equal_in),
                "verdict": test.verdict.value,
            }
            for answer in routing
            for test in answer.tests
        ],
    }


def _describe_savings(found: SweepResults) -> dict[str, Any] | None:
    if found.reference is None:
        return None
    names = [arm.name for arm in found.arms]
    return {
        "reference": found.reference.name,
        "counts": {
            saving.key: {
                "name": saving.name,
                "amounts": dict(zip(names, saving.amounts, strict=True)),
                "saved": dict(zip(names, saving.saved, strict=True)),
            }
            for saving in found.savings
        },
    }

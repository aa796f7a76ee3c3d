"""What a sweep ran on: models, data, the base model's accuracy, and its jobs' warnings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from caft.records import Mode
from caft.report.comparison import best_mode, results_by_mode
from caft.report.run.caveats import find_warnings
from caft.report.schema import as_share
from caft.report.sweep.job_results import JobResult
from caft.report.sweep.schema import BasePart, OriginPart
from caft.report.wording import count_of
from caft.statistics import mean_interval, resample_means

_Value = TypeVar("_Value", str, int)
_MOST = 6
_NUMBERS = re.compile(r"\d[\d.,%]*")


def describe_origin(jobs: Sequence[JobResult]) -> OriginPart:
    """What the finished jobs have in common, and where they differ."""
    runs = [job.summary for job in jobs if job.summary]
    return {
        "models": _distinct(run["model"]["id"] for run in runs),
        "datasets": _distinct(run["dataset"]["name"] for run in runs),
        "test_questions": _distinct(run["dataset"]["counts"]["test"] for run in runs),
        "commits": _distinct((run["run"]["git_commit"] or "no commit")[:12] for run in runs),
        "devices": _distinct(run["run"]["device"] for run in runs),
    }


def _distinct(values: Iterable[_Value]) -> list[_Value]:
    return list(dict.fromkeys(values))


def find_bases(jobs: Sequence[JobResult], confidence: float) -> list[BasePart]:
    """One base model for each model and set of test questions; its seeds draw its examples."""
    groups: dict[tuple[str, str], dict[int, JobResult]] = {}
    for job in jobs:
        mode = best_mode(job.accuracy, "base")
        if mode and job.base_replies.get(mode):
            group = groups.setdefault((job.finished["model"]["id"], job.test_questions), {})
            group.setdefault(job.seed, job)
    many = len({model for model, _ in groups}) > 1
    return [
        _describe_base(f"base model {model}" if many else "base model", by_seed, confidence)
        for (model, _), by_seed in groups.items()
    ]


def _describe_base(name: str, by_seed: dict[int, JobResult], confidence: float) -> BasePart:
    first, *_ = by_seed.values()
    mode = best_mode(first.accuracy, "base") or ""
    jobs = {seed: job for seed, job in sorted(by_seed.items()) if job.base_replies.get(mode)}
    order = sorted(first.base_replies[mode])
    rows = [
        tuple(job.base_replies[mode].get(question, False) for question in order)
        for job in jobs.values()
    ]
    # Most models say the same under every seed: that is one observation. Of others, each counts.
    rows = rows[:1] if len({*rows}) == 1 else rows
    results = [results_by_mode(job.accuracy, "base") for job in jobs.values()]
    spent = [of_job[mode]["generated_tokens"] / of_job[mode]["n"] for of_job in results]
    return {
        "name": name,
        "mode": mode,
        "seeds": list(jobs),
        "accuracy": as_share(mean_interval(resample_means({name: rows})[name], confidence)),
        "by_mode": {
            each.name: sum(of_job[each.name]["value"] for of_job in results) / len(results)
            for each in Mode
            if all(each.name in of_job for of_job in results)
        },
        "tokens_a_question": sum(spent) / len(spent),
    }


def gather_warnings(jobs: Sequence[JobResult]) -> list[str]:
    """The warnings of the finished jobs' own reports; those that differ in numbers are one."""
    by_kind: dict[str, tuple[str, list[int]]] = {}
    finished = [job for job in jobs if job.summary]
    for job in finished:
        stated = job.finished.get("warnings")
        for text in find_warnings(job.finished) if stated is None else stated:
            _, numbers = by_kind.setdefault(_NUMBERS.sub("#", text), (text, []))
            numbers.append(job.number)
    texts = [f"{text} {_name_jobs(numbers, len(finished))}" for text, numbers in by_kind.values()]
    left = len(texts) - _MOST
    return texts[:_MOST] + ([f"{count_of(left, 'more kind')} of warnings on the jobs' pages."]
                            if left > 0 else [])  # fmt: skip


def _name_jobs(numbers: Sequence[int], finished: int) -> str:
    distinct = list(dict.fromkeys(numbers))
    if len(distinct) == finished:
        return "(every job)" if finished > 1 else f"(job {distinct[0]})"
    if len(distinct) > _MOST:
        return f"({len(distinct)} of {finished} jobs, such as job {distinct[0]})"
    return f"(job{'s' * (len(distinct) > 1)} {', '.join(map(str, distinct))})"

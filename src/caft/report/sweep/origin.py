"""What a sweep ran on: models, data, the base model's accuracy, and its jobs' warnings. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from caft.records import Mode
from caft.report.comparison import best_mode, results_by_mode
from caft.report.run.caveats import find_warnings
from caft.report.schema import as_share
from caft.report.sweep.job_results import (
    JobResult,
    name_settings,
    number_alike,
    varying_settings,
)
from caft.report.sweep.schema import BasePart, OriginPart
from caft.report.wording import count_of
from caft.statistics import mean_interval, resample_means

_Value = TypeVar("_Value", str, int)
_Key = tuple[str, str, str]
_MOST = 6
_DETAILS = re.compile(r"(?<=[.:]) .*", re.DOTALL)
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


@dataclass(frozen=True, slots=True)
class _Base:
    """A base model on its test questions in one mode, with a job a seed.

    `settings` are those of its first job that its replies may depend on, `keys` what all of its
    jobs say of these.
    """

    mode: str
    settings: Mapping[str, str]
    keys: set[_Key] = field(default_factory=set)
    jobs: dict[int, JobResult] = field(default_factory=dict)

    def is_of(self, job: JobResult, key: _Key) -> bool:
        """Whether the job asked this model: it says so, or was told the same under its seed."""
        known = self.jobs.get(job.seed)
        if key in self.keys or known is None:
            return key in self.keys
        replies = [dict(each.base_replies.get(self.mode, {})) for each in (known, job)]
        return any(key[:2] == own[:2] for own in self.keys) and replies[0] == replies[1]


def find_bases(jobs: Sequence[JobResult], confidence: float) -> list[BasePart]:
    """One row for each base model and set of test questions; its seeds draw its examples.

    Models of one id may differ in their settings, as may prompts: those are several rows where
    their replies differ.
    """
    bases: list[_Base] = []
    for job, settings in zip(jobs, varying_settings(jobs), strict=True):
        mode = best_mode(job.accuracy, "base")
        if not mode or not job.base_replies.get(mode):
            continue
        found = next((b for b in bases if b.is_of(job, _key_of(job, settings, b.mode))), None)
        if found is None:
            found = _Base(mode, _asked_with(settings, mode))
            bases.append(found)
        found.keys.add(_key_of(job, settings, found.mode))
        found.jobs.setdefault(job.seed, job)
    names = _name_bases(bases)
    return [_describe_base(*each, confidence) for each in zip(names, bases, strict=True)]


def _key_of(job: JobResult, settings: Mapping[str, str], mode: str) -> _Key:
    """Its model, test questions, and what else the base model's replies may depend on."""
    config = job.fix(*_after_base(mode))
    own = json.dumps([_asked_with(settings, mode), config], sort_keys=True)
    return job.finished["model"]["id"], job.test_questions, own


def _asked_with(settings: Mapping[str, str], mode: str) -> dict[str, str]:
    return {
        key: value for key, value in settings.items() if key.split(".")[0] not in _after_base(mode)
    }


def _after_base(mode: str) -> tuple[str, ...]:
    """Groups that the base model's replies do not depend on; only routed ones go by the split."""
    after = ("method", "tuning", "teacher")
    return after if mode == Mode.routed.name else (*after, "split")


def _name_bases(bases: Sequence[_Base]) -> list[str]:
    """By id where there are several models, and by the settings that differ beyond it."""
    ids = [job.finished["model"]["id"] for base in bases for job in [*base.jobs.values()][:1]]
    plain = [f"base model {each}" if len({*ids}) > 1 else "base model" for each in ids]
    names = []
    for name, base in zip(plain, bases, strict=True):
        alike = [own.settings for own, other in zip(bases, plain, strict=True) if other == name]
        told = {
            key: value
            for key, value in base.settings.items()
            if any(own.get(key) != value for own in alike)
        }
        names.append(", ".join(filter(None, (name, name_settings(told)))))
    return number_alike(names)


def _describe_base(name: str, base: _Base, confidence: float) -> BasePart:
    mode = base.mode
    first, *_ = base.jobs.values()
    order = sorted(first.base_replies[mode])
    jobs = {
        seed: job
        for seed, job in sorted(base.jobs.items())
        if job.base_replies.get(mode, {}).keys() == first.base_replies[mode].keys()
    }
    rows = [tuple(job.base_replies[mode][question] for question in order) for job in jobs.values()]
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
    """The warnings of the finished jobs' own reports, of each kind that of the first job.

    The kind is what stands before the details, without its numbers; the second of one job is
    another kind.
    """
    by_kind: dict[tuple[str, int], list[tuple[str, int]]] = {}
    finished = [job for job in jobs if job.summary]
    for job in finished:
        stated = job.finished.get("warnings")
        earlier: Counter[str] = Counter()
        for text in find_warnings(job.finished) if stated is None else stated:
            kind = _NUMBERS.sub("#", _DETAILS.sub("", text))
            by_kind.setdefault((kind, earlier[kind]), []).append((text, job.number))
            earlier[kind] += 1
    texts = [_join_alike(found, len(finished)) for found in by_kind.values()]
    left = len(texts) - _MOST
    return texts[:_MOST] + ([f"{count_of(left, 'more kind')} of warnings on the jobs' pages."]
                            if left > 0 else [])  # fmt: skip


def _join_alike(found: Sequence[tuple[str, int]], finished: int) -> str:
    """The first job's warning, and whose it is, too."""
    (text, first), *_ = found
    told = {_NUMBERS.sub("#", own) for own, _ in found}
    names = _name_jobs([number for _, number in found], finished)
    return f"{text} ({names}{f'; details of job {first}' if len(told) > 1 else ''})"


def _name_jobs(numbers: Sequence[int], finished: int) -> str:
    if len(numbers) == finished:
        return "every job" if finished > 1 else f"job {numbers[0]}"
    if len(numbers) > _MOST:
        return f"{len(numbers)} of {finished} jobs, such as job {numbers[0]}"
    return f"job{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"

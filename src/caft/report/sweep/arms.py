"""Arms: jobs that differ in nothing but their seed, on the same test questions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from caft.estimators import ESTIMATORS, Need
from caft.records import Target
from caft.report.engine_part import EnginePart
from caft.report.run.cost import spent_usd
from caft.report.schema import Summary, drawn_at_random
from caft.report.sweep.job_results import JobResult, name_settings, number_alike, varying_settings
from caft.report.wording import count_of

EQUAL_BUDGET = 0.02
"""Two budgets are equal when they differ by no more than this share of the larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The evaluated jobs of one setting, one a seed, in the order of their seeds.

    `name` is no other arm's: of several that are named alike, later ones have a number behind it.
    """

    name: str
    plain_name: str
    settings: Mapping[str, str]
    jobs: tuple[JobResult, ...]

    @property
    def first(self) -> Summary:
        """The summary of its first job: all but seeds and outcomes is the same in the others."""
        return self.jobs[0].finished

    @property
    def seeds(self) -> list[int]:
        """The seeds that it was run with."""
        return [job.seed for job in self.jobs]

    @property
    def shares(self) -> list[float]:
        """Test accuracy of every seed."""
        return [float(job.result["value"]) for job in self.jobs if job.result]

    @property
    def accuracy(self) -> float:
        """Mean test accuracy over the seeds."""
        return sum(self.shares) / len(self.shares)

    @property
    def questions(self) -> frozenset[str]:
        """The ids of the test questions that it answered."""
        return frozenset(self.jobs[0].outcomes)

    @property
    def model(self) -> tuple[object, ...]:
        """The base model that it tuned: models of other settings may have the same id."""
        own = (item for item in self.settings.items() if item[0].split(".")[0] == "model")
        return (self.first["model"]["id"], *own)

    @property
    def strategy(self) -> str:
        """How its questions were sorted into classes."""
        split = self.first["split"]
        return split["strategy"] if split else ""

    @property
    def is_random(self) -> bool:
        """Whether its classes were drawn at random."""
        return drawn_at_random(self.strategy)

    @property
    def rescores(self) -> bool:
        """Whether a stage had its classes made anew, by the student as tuned so far."""
        return any("rescored" in stage for stage in self.first["method"]["stages"])

    @property
    def estimator(self) -> str | None:
        """The estimate that sorted them; None if classes were drawn at random, or none made."""
        split, score = self.first["split"], self.first["score"]
        if not split or self.is_random:
            return None
        # Summaries once named it among the scores only.
        return split.get("estimator") or (score["estimator"] if score else None)

    @property
    def estimate_calls(self) -> str:
        """The calls that its estimate took, and whether a budget has them; empty without any."""
        known = ESTIMATORS.get(self.estimator or "")
        if known and known.need is Need.teacher_options:
            calls = count_of(self.first["dataset"]["counts"]["train"], "teacher call")
            return f"{calls}, whose tokens are in its budget"
        if known and known.need is Need.judge and (judged := self.mean_cost("judge_calls")):
            return f"{count_of(round(judged), 'judge call')}, on top of its budget"
        return ""

    @property
    def stages(self) -> list[tuple[object, ...]]:
        """What each tuning stage trained the classes on: epochs, draws, weights, whose classes."""
        return [
            (
                stage["targets"],
                stage["epochs"],
                stage.get("draw") or {},
                stage.get("weights") or {},
                "rescored" in stage,
            )
            for stage in self.first["method"]["stages"]
        ]

    @property
    def trained(self) -> dict[str, str]:
        """The targets of every class that a stage trained, such as "answer, rationale"."""
        targets: dict[str, list[str]] = {}
        for stage in self.first["method"]["stages"]:
            for name, target in stage["targets"].items():
                targets.setdefault(name, []).append(target)
        return {name: ", ".join(dict.fromkeys(own)) for name, own in targets.items()}

    @property
    def distils_everything(self) -> bool:
        """Whether each stage trains every class on the teacher's rationales, and on them alone."""
        split, stages = self.first["split"], self.first["method"]["stages"]
        wanted = dict.fromkeys(split["counts"] if split else (), Target.rationale.value)
        return bool(wanted and stages) and all(stage["targets"] == wanted for stage in stages)

    @property
    def by_class(self) -> dict[str, float]:
        """Mean accuracy on each class of test questions that every job has, in its order."""
        split, parts = self.first["split"], [job.result for job in self.jobs if job.result]
        return {
            name: sum(part["by_complexity"][name]["value"] for part in parts) / len(parts)
            for name in (split["counts"] if split else ())
            if parts and all(name in part["by_complexity"] for part in parts)
        }

    @property
    def engines(self) -> set[str]:
        """What wrote its jobs' replies: name, version and settings; earlier versions had one.

        None where every answer that counts is one token, which we read whatever the engine.
        """
        return {name_engine(job.finished.get("engine")) for job in self.jobs if _is_written(job)}

    @property
    def modes(self) -> list[str]:
        """The modes that count for its jobs."""
        return sorted({job.mode for job in self.jobs if job.mode})

    def in_mode(self, mode: str) -> Arm:
        """The same arm with every job's replies taken in `mode`."""
        return replace(self, jobs=tuple(replace(job, given_mode=mode) for job in self.jobs))

    def mean_cost(self, key: str) -> float:
        """One number of `count_of_cost`, averaged over the seeds."""
        return sum(count_of_cost(job, key) for job in self.jobs) / len(self.jobs)


def find_arms(jobs: Sequence[JobResult]) -> list[Arm]:
    """Evaluated jobs by their settings, configs and test questions, in the order of the jobs.

    A file of data or config may change between two starts of one sweep. Jobs with an option
    written out, and with the same one left to its default, are not known to be equal: they are two
    arms. Of two with equal settings and seed it is the one that finished last: the order in which a
    job table lists them says nothing about their age.
    """
    by_settings: dict[tuple[tuple[tuple[str, str], ...], str, str], dict[int, JobResult]] = {}
    for job, settings in zip(jobs, varying_settings(jobs), strict=True):
        if job.result and job.outcomes:
            key = tuple(settings.items()), job.fix(), job.test_questions
            of_seed = by_settings.setdefault(key, {})
            of_seed[job.seed] = max(of_seed.get(job.seed, job), job, key=_finish_of)
    of_arms = [dict(pairs) for pairs, _, _ in by_settings]
    jobs_of = [tuple(of[seed] for seed in sorted(of)) for of in by_settings.values()]
    plain = [
        name_settings(own) or first.finished["method"]["name"]
        for own, (first, *_) in zip(of_arms, jobs_of, strict=True)
    ]
    names = number_alike(plain)
    return [
        Arm(name=name, plain_name=alike, settings=own, jobs=own_jobs)
        for name, alike, own, own_jobs in zip(names, plain, of_arms, jobs_of, strict=True)
    ]


def _finish_of(job: JobResult) -> datetime:
    return datetime.fromisoformat(job.finished["run"]["finished"])


def share_questions(first: Arm, second: Arm) -> bool:
    """Whether both answered the same test questions; training rows may differ.

    Equal ids alone prove nothing: files may number their rows. Older summaries have a fingerprint
    of all questions only, and where it differs the answer is no.
    """
    one, two = first.first["dataset"], second.first["dataset"]
    same = one["fingerprint"] == two["fingerprint"] or (
        "test_fingerprint" in one and one["test_fingerprint"] == two.get("test_fingerprint")
    )
    return same and first.questions == second.questions


def share_engine(first: Arm, second: Arm) -> bool:
    """Whether no more than one engine, in one version, wrote the replies of both.

    Two engines round differently, and so answer differently where tokens are nearly tied: the
    difference of two arms would be that of their engines as well.
    """
    return len(first.engines | second.engines) <= 1


def _is_written(job: JobResult) -> bool:
    """Whether an engine wrote any reply that counts."""
    engine = job.finished.get("engine")
    if job.mode == "answer" and engine and not engine.get("writes_answers", True):
        return False
    return job.result is not None and job.result["generated_tokens"] > job.result["n"]


def name_engine(engine: EnginePart | None) -> str:
    """An engine by all that its replies depend on, such as "vllm 0.33.0"; "own" is ours."""
    if not engine:
        return "own"
    settings = {key: value for key, value in engine["settings"].items() if value}
    parts = [engine["name"], engine["version"], json.dumps(settings) if settings else None]
    return " ".join(part for part in parts if part)


def pick_common_mode(first: Arm, second: Arm) -> str | None:
    """The mode that is best on validation questions over both arms and all of their seeds.

    Each arm in its own best mode would be a lottery: a few validation questions draw the mode,
    and modes may lie further apart than arms. The arms weigh equally; of equally good modes it is
    the cheaper one in tokens. Without validation numbers: the mode that all jobs have chosen, if
    it is one. None if there is no common mode.
    """
    jobs = (*first.jobs, *second.jobs)
    measured = [
        mode
        for mode in jobs[0].validation
        if all(mode in job.validation and job.results.get(mode) and mode in job.replies
               for job in jobs)
    ]  # fmt: skip
    if measured:
        return max(measured, key=lambda mode: _merit_of_mode(mode, first, second))
    chosen = {job.mode for job in jobs}
    return chosen.pop() if len(chosen) == 1 else None


def _merit_of_mode(mode: str, first: Arm, second: Arm) -> tuple[float, float]:
    share = tokens = 0.0
    for arm in (first, second):
        share += sum(job.validation[mode] for job in arm.jobs) / len(arm.jobs)
        spent = [job.results[mode]["generated_tokens"] for job in arm.jobs]
        tokens += sum(spent) / len(spent)
    # Sums of shares such as .1 and .2 differ in their last bits, which would decide ties.
    return round(share, 9), -tokens


def count_of_cost(job: JobResult, key: str) -> float:
    """One number of what a job cost; the keys of the cost part, and those below."""
    counts = {"rationales_asked": job.asked, "rationales_kept": job.kept, "taught": job.taught}
    if key in counts:
        return counts[key]
    if key == "usd":
        return spent_usd(job.finished["cost"])
    cost: Mapping[str, Any] = job.finished["cost"]
    if key == "teacher_tokens":
        return float(cost["teacher_prompt_tokens"] + cost["teacher_completion_tokens"])
    return float(cost.get(key) or 0)


def budget_key(arms: Sequence[Arm]) -> str:
    """The key of `mean_cost` that a budget is counted in: the teacher's tokens.

    Solutions that come with the data are free: they are counted in the student's tokens.
    """
    bought = any(arm.mean_cost("teacher_completion_tokens") for arm in arms)
    return "teacher_tokens" if bought else "unique_rationale_tokens"


def equal_budgets(first: Arm, second: Arm) -> list[str]:
    """The ways of counting (calls, tokens) in which two arms had about the same budget."""
    # What was bought decides; free solutions are counted in the student's tokens.
    bought = first.mean_cost("teacher_completion_tokens") > 0
    ways = {
        "teacher calls": ("rationales_asked", "rationales_kept"),
        "teacher tokens": ("teacher_completion_tokens" if bought else "unique_rationale_tokens",),
    }
    return [
        name
        for name, keys in ways.items()
        if all(are_close(first.mean_cost(key), second.mean_cost(key)) for key in keys)
    ]


def are_close(one: float, two: float) -> bool:
    """Whether two budgets are equal, but for `EQUAL_BUDGET`."""
    return abs(one - two) <= EQUAL_BUDGET * max(one, two)

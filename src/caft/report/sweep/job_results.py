"""The jobs of a sweep, and the overrides in which they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from caft.report.comparison import best_mode, results_by_mode
from caft.report.schema import Accuracy, AccuracyPart, Summary
from caft.report.sweep.schema import JobPart
from caft.report.wording import list_names
from caft.teachers.config import PACE_AND_PRICE

FINISHED, UNREADABLE = "finished", "not readable"

# Where a job writes and how it is run do not change the experiment.
_NO_SETTINGS = (
    "seed", "name", "store", "logger", "trainer", "hydra", "report", "until", "multirun_sweeps"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """One job's folder. `summary` is None until it is finished; `error` says why it failed.

    `overrides` are all of a finished job's; those that every job has may be left out of others.
    `config` is what its frozen config says, by group; empty if that is unknown.
    `replies` holds by mode and test question whether the tuned model (the base model, where
    nothing was tuned) was right, and `base_replies` whether the base model was. `further` holds the
    same of further sets, by set, mode and model. `given_mode` is the mode that counts; None is the
    one chosen on validation questions. `asked` and `kept` count rationales: the requested ones and
    those that may be trained on, `taught` the questions that any was requested for. `has_page` says
    whether it has a report.html.
    """

    number: int
    folder: str
    state: str = FINISHED
    error: str = ""
    overrides: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    summary: Summary | None = None
    replies: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    base_replies: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    further: Mapping[tuple[str, str, str], Mapping[str, bool]] = field(default_factory=dict)
    given_mode: str | None = None
    asked: int = 0
    kept: int = 0
    taught: int = 0
    has_page: bool = False

    @property
    def finished(self) -> Summary:
        """The summary of a finished job."""
        assert self.summary is not None, f"job {self.number} is not finished"
        return self.summary

    @property
    def seed(self) -> int:
        """The seed of a finished job."""
        return int(self.finished["run"]["seed"])

    def fix(self, *beside: str) -> str:
        """What its config says of the experiment, these groups left out."""
        left_out = {*_NO_SETTINGS, *beside}
        kept = {key: value for key, value in self.config.items() if key not in left_out}
        return json.dumps(_without_pace(kept), sort_keys=True)

    @property
    def test_questions(self) -> str:
        """The fingerprint of a finished job's test questions; older summaries have one of all."""
        dataset = self.finished["dataset"]
        return dataset.get("test_fingerprint") or dataset["fingerprint"]

    @property
    def accuracy(self) -> AccuracyPart | None:
        """The accuracy part of its summary, if it has one."""
        return self.summary.get("accuracy") if self.summary else None

    @property
    def model(self) -> Literal["base", "tuned"]:
        """Whose replies count: the tuned model's, or the base one's where nothing was tuned."""
        return "tuned" if self.accuracy and self.accuracy["tuned"] else "base"

    @property
    def mode(self) -> str | None:
        """The mode that counts; None if none was chosen."""
        chosen = best_mode(self.accuracy, self.model) if self.accuracy else None
        return self.given_mode or chosen

    @property
    def outcomes(self) -> Mapping[str, bool]:
        """By test question, whether the reply was right in the mode that counts."""
        return self.replies.get(self.mode or "", {})

    @property
    def results(self) -> Mapping[str, Accuracy]:
        """Accuracy on the test questions in every mode that was evaluated."""
        return results_by_mode(self.accuracy, self.model)

    @property
    def result(self) -> Accuracy | None:
        """Accuracy in the mode that counts; None if nothing was evaluated."""
        return self.results.get(self.mode or "")

    @property
    def validation(self) -> Mapping[str, float]:
        """Share of right answers on the validation questions, by mode."""
        shares = self.accuracy.get("validation", {}) if self.accuracy else {}
        return shares.get(self.model, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """All jobs of one folder, in order. `question` is the question that the sweep is to answer.

    `superseded` counts jobs that are left out: the same overrides, with a config that has changed
    since, are another job by now.
    """

    name: str
    jobs: Sequence[JobResult]
    question: str = ""
    superseded: int = 0


def explain_missing(jobs: Sequence[JobPart]) -> str:
    """What brings the jobs that are in no number into them; empty if all are there.

    A job that cannot be read has ended for its sweep, which does nothing about it.
    """
    if unread := [job["folder"] for job in jobs if job["state"] == UNREADABLE]:
        return f"Move away what cannot be read ({list_names(unread)}) and give its command again."
    if any(job["state"] != FINISHED for job in jobs):
        return "Its command, given again, runs what is missing."
    return ""


def _without_pace(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    kept = (key for key in value if key not in PACE_AND_PRICE)
    return {key: _without_pace(value[key]) for key in kept}


def varying_settings(jobs: Sequence[JobResult]) -> list[dict[str, str]]:
    """Each job's overrides, as key and value, whose value differs between jobs; seeds left out."""
    settings = []
    for job in jobs:
        parts = [override.lstrip("+~").partition("=") for override in job.overrides]
        settings.append({key: value for key, _, value in parts})
    told = [(own, job.summary) for own, job in zip(settings, jobs, strict=True)]
    varying = [
        key
        for key in dict.fromkeys(key for own in settings for key in own)
        if key.split(".")[0] not in _NO_SETTINGS
        and key.split(".")[-1] not in PACE_AND_PRICE
        and len({own.get(key) for own, finished in told if finished or key in own}) > 1
    ]
    return [{key: own[key] for key in varying if key in own} for own in settings]


def name_settings(settings: Mapping[str, str]) -> str:
    """Options of a group by their own name, single values with their key."""
    return ", ".join(
        value if "." not in key else f"{key}={value}" for key, value in settings.items()
    )


def number_alike(names: Sequence[str]) -> list[str]:
    """The names, with a number behind each that is there already."""
    taken: dict[str, None] = {}
    for name in names:
        numbered = (f"{name} ({number})" for number in count(2))
        own = name if name not in taken else next(text for text in numbered if text not in taken)
        taken[own] = None
    return [*taken]

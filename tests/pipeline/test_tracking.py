"""What a tracker is told of a run's products: each with its own fingerprint and its own parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caft.pipeline.results import record_stage
from caft.pipeline.run import name_setting
from caft.pipeline.steps import Step
from caft.pipeline.tracking import headline_numbers, list_products
from caft.run_config import RunContext, Until
from caft.store import Artifact, StageKind
from caft.trainers.tracker import Product

SCORE = (StageKind.score, "score")
LATER = [
    (StageKind.distill, "distill"),
    (StageKind.tune, "tune 1"),
    (StageKind.tune, "tune 2"),
    (StageKind.evaluate, "evaluate base rationale"),
    (StageKind.evaluate, "evaluate tuned answer"),
]


def products(
    folder: Path, stages: list[tuple[StageKind, str]], fresh: str = ""
) -> dict[str, Product]:
    """Each stage's fingerprint is its name; all but `fresh` come from the store."""
    for name in ("scores.parquet", "rationales.parquet", "adapter"):
        (folder / name).touch()
    records = [
        record_stage(
            Step(Until.score, kind, name),
            Artifact(kind.value, f"of {name}", folder, name != fresh, 1.0, 1, {}),
        )
        for kind, name in stages
    ]
    summary: dict[str, Any] = {
        "model": {"id": "some/model"},
        "dataset": {"name": "data", "fingerprint": "of data", "counts": {}},
        "run": {"name": "run"},
        "stages": records,
    }
    return {product.kind: product for product in list_products(summary, folder)}


@pytest.mark.parametrize(
    "further",
    [
        [],
        [(StageKind.fallback, "score fallback")],
        [(StageKind.judge, "score judge")],
        [
            (StageKind.fallback, "score fallback"),
            (StageKind.chains, "score chains"),
            (StageKind.judge, "score judge"),
        ],
    ],
    ids=lambda further: "+".join(kind.name for kind, _ in further) or "none",
)
def test_every_product_has_the_fingerprint_of_the_stage_that_made_it(
    tmp_path: Path, further: list[tuple[StageKind, str]]
) -> None:
    found = products(tmp_path, [SCORE, *further, *LATER])
    assert {kind: product.fingerprint for kind, product in found.items()} == {
        "dataset": "of data",
        "scores": "of score",
        "rationales": "of distill",
        "adapter": "of tune 2",
    }
    parts = {kind.name: f"of {name}" for kind, name in further}
    assert found["scores"].made_from == {"dataset": "of data", **parts}
    assert found["rationales"].made_from == {"dataset": "of data", "scores": "of score"}
    assert found["adapter"].made_from == {
        "dataset": "of data",
        "scores": "of score",
        "rationales": "of distill",
    }


@pytest.mark.parametrize(
    ("fresh", "made"),
    [
        ("", set()),
        ("score", {"scores"}),
        ("score chains", {"scores"}),
        ("tune 1", set()),
        ("tune 2", {"adapter"}),
        ("evaluate tuned answer", set()),
    ],
)
def test_a_product_is_taken_where_all_its_stages_are(
    tmp_path: Path, fresh: str, made: set[str]
) -> None:
    found = products(tmp_path, [SCORE, (StageKind.chains, "score chains"), *LATER], fresh)
    assert {kind for kind, product in found.items() if not product.taken} == made


def test_a_run_that_stopped_early_has_no_later_products(tmp_path: Path) -> None:
    assert set(products(tmp_path, [SCORE])) == {"dataset", "scores"}


def test_the_headline_is_of_the_best_mode_and_the_estimate_in_use_and_of_all_money() -> None:
    modes = {"answer": {"value": 0.25}, "rationale": {"value": 0.5}, "routed": None}
    summary: Any = {
        "accuracy": {
            "base": {"answer": {"value": 0.125}, "rationale": None, "routed": None},
            "tuned": modes,
            "best_mode": {"base": "answer", "tuned": "rationale"},
        },
        "score": {
            "estimator": "p_true",
            "roc_auc": {"answer_entropy": {"value": 0.75}, "p_true": {"value": 0.875}},
        },
        "split": {"thresholds": [1.0, 1.5]},
        "cost": {
            "teacher_calls": 3,
            "teacher_prompt_tokens": 100,
            "teacher_completion_tokens": 20,
            "teacher_usd": 0.0625,
            "judge_usd": 0.5,
            "trained_total_tokens": 900,
        },
    }
    headline = {
        "accuracy": 0.5,
        "best_mode": "rationale",
        "base_accuracy": 0.125,
        "roc_auc": 0.875,
        "hard_cut": 1.5,
        "teacher_calls": 3,
        "teacher_tokens": 120,
        "usd": 0.5625,
        "trained_tokens": 900,
    }
    assert headline_numbers(summary) == headline
    # A run without tuning is its base model; one that stopped before scoring it has no accuracy.
    summary["accuracy"]["tuned"] = None
    assert headline_numbers(summary) == headline | {"accuracy": 0.125, "best_mode": "answer"}
    summary |= {"accuracy": None, "split": None, "score": None}
    assert list(headline_numbers(summary)) == list(headline)[5:]


def test_a_run_is_named_by_what_sets_it_apart() -> None:
    words = ("model=tiny", "split=random", "seed=3", "store.path=/x", "tuning.lora.r=4")
    assert name_setting(RunContext(folder=Path("22-15"), overrides=words)) == [
        "split=random",
        "tuning.lora.r=4",
    ]
    job = RunContext(
        folder=Path("night/method=sft,seed=3,split=random-0a1b2c3d"),
        overrides=words,
        run_id="0a1b2c3d4e5f",
        sweep="night",
    )
    assert name_setting(job) == ["split=random"]

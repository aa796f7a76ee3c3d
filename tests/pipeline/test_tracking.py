"""What a tracker is told of a run's products: each with its own fingerprint and its own parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caft.pipeline.results import record_stage
from caft.pipeline.steps import Step
from caft.pipeline.tracking import list_products
from caft.run_config import Until
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
        [(StageKind.chains, "score chains")],
        [(StageKind.samples, "score samples")],
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

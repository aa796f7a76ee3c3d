"""The positive control is one for the embedded model: its entropy tells the two kinds apart."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest

from caft.data import load_questions
from caft.data.config import MixedConfig
from caft.errors import UserError
from caft.models.config import EmbeddedModelConfig
from caft.models.loading import load_tokenizer
from caft.models.sources.embedded import find_gguf
from caft.models.sources.locate import locate_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def needs_the_embedded_model() -> None:
    try:
        find_gguf()
    except UserError as error:
        pytest.skip(str(error))


def test_entropy_predicts_the_embedded_models_mistakes(workshop: Any) -> None:
    sizes = ("dataset.train=400", "dataset.validation=10", "dataset.test=10")
    score = workshop.run("dataset=mixed", *sizes, "until=score").summary["score"]
    # 0.96 was measured; the bound leaves room for the rounding of other processors.
    assert score["roc_auc"]["answer_entropy"]["value"] >= 0.80
    by_class = {name: share["value"] for name, share in score["accuracy_by_class"].items()}
    assert by_class["easy"] > 0.9
    assert by_class["hard"] < 0.3


def test_solutions_of_both_kinds_are_equally_long_in_the_models_tokens() -> None:
    config = EmbeddedModelConfig(name="smollm2", id="smollm2")
    tokenizer = load_tokenizer(locate_model(config), config)
    lengths: dict[bool, list[int]] = {True: [], False: []}
    mixed = MixedConfig(name="mixed")
    for question in load_questions(mixed).train:
        tokens = tokenizer(question.rationale or "").input_ids
        lengths[question.subject == "lookup"].append(len(tokens))
    assert len(lengths[True]) == len(lengths[False]) == mixed.train / 2
    assert fmean(lengths[True]) == pytest.approx(fmean(lengths[False]), rel=0.02)

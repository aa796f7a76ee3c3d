"""The model card says how the weights were made, how to load them, and names no folder of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from caft.report.run.model_card import Recipe, Weights, write_card

RECIPE = Recipe(
    kinds=("lora", "dora"),
    rank=8,
    alpha=24,
    learning_rate=1e-3,
    prompts={"rationale": "<s>Think.</s>\n{question}"},
    template_switches={"enable_thinking": False, "date_string": "1 Jan 2000"},
)
SFT = {
    "name": "sft",
    "stages": [{"targets": {"easy": "answer", "hard": "answer"}, "epochs": 6, "examples": 600}],
}
CURRICULUM = {
    "name": "curriculum",
    "stages": [
        {"targets": {name: "answer"}, "epochs": 3, "examples": 9} for name in ("easy", "hard")
    ],
}


def summary(model: str) -> dict[str, Any]:
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    return {
        "run": {"name": "some-run", "seed": 7},
        "model": {
            "id": model,
            "revision": "0a1b2c",
            "parameters": 1000,
            "trainable_parameters": 10,
        },
        "dataset": {
            "name": "arithmetic",
            "fingerprint": "abcdef",
            "counts": {"train": 600, "validation": 80, "test": 200},
        },
        "score": {"estimator": "answer_entropy", "source": "model"},
        "split": {"strategy": "entropy", "counts": {"easy": 150, "hard": 450}},
        "method": {
            "name": "hard_only",
            "stages": [{"targets": {"hard": "rationale"}, "epochs": 6, "examples": 150}],
        },
        "tuning": [
            {
                "epochs": 6,
                "by_epoch": [0.25, 0.5, 0.375],
                "best_epoch": 2,
                "best": 0.5,
                "final": 0.375,
                "questions": 24,
                "selected": 6,
            }
        ],
        "accuracy": {
            "base": {"answer": share, "rationale": None, "routed": None},
            "tuned": {"answer": {**share, "value": 0.55}, "rationale": None, "routed": None},
            "confidence": 0.95,
        },
    }


def write(changes: dict[str, Any] | None = None, recipe: Recipe = RECIPE) -> str:
    return write_card({**summary("a/b"), **(changes or {})}, recipe, Weights.adapter)


def test_card_says_data_method_revision_and_numbers() -> None:
    card = write_card(summary("Qwen/Qwen2.5-3B-Instruct"), RECIPE, Weights.adapter)
    assert card.startswith("---\nbase_model: Qwen/Qwen2.5-3B-Instruct\n")
    assert "`Qwen/Qwen2.5-3B-Instruct` at revision `0a1b2c`; 10 of 1,000 parameters" in card
    assert "`arithmetic` (fingerprint `abcdef`): 600 training" in card
    assert "`hard_only`, seed 7, learning rate 0.001:" in card
    assert "1. hard: rationale; 6 epochs, 150 rows" in card
    assert "best 50.0% after epoch 2, final 37.5%; the weights are those of epoch 6" in card
    assert "Split `entropy` by `answer_entropy`: 150 easy, 450 hard training questions." in card
    assert "| answer | 50.0% (40.0 to 60.0), n=90 | 55.0% (40.0 to 60.0), n=90 |" in card
    assert "| routed | not measured | not measured |" in card


@pytest.mark.parametrize(("confidence", "words"), [(0.975, "97.5%"), (0.9999, "99.99%")])
def test_no_confidence_is_rounded(confidence: float, words: str) -> None:
    accuracy = {**summary("a/b")["accuracy"], "confidence": confidence}
    assert f"with {words} Wilson intervals" in write({"accuracy": accuracy})


@pytest.mark.parametrize(
    ("weights", "kinds", "front_matter", "words"),
    [
        (
            Weights.adapter,
            ("lora", "dora"),
            "base_model_relation: adapter\nlibrary_name: peft\npipeline_tag: text-generation\n"
            "tags: [caft, lora, dora]\n---",
            "An adapter of the base model in PEFT's format (lora, dora; r 8, alpha 24).",
        ),
        (
            Weights.merged,
            ("qlora",),
            "base_model_relation: finetune\nlibrary_name: transformers\n"
            "pipeline_tag: text-generation\ntags: [caft, qlora]\n---",
            "A whole model: the adapter (qlora; r 8, alpha 24) is merged into the base model's",
        ),
        (
            Weights.full,
            ("full",),
            "base_model_relation: finetune\nlibrary_name: transformers\n"
            "pipeline_tag: text-generation\ntags: [caft, full]\n---",
            "A whole model, of which every weight was tuned.",
        ),
    ],
)
def test_the_hub_knows_how_these_weights_load(
    weights: Weights, kinds: tuple[str, ...], front_matter: str, words: str
) -> None:
    card = write_card(summary("a/b"), replace(RECIPE, kinds=kinds), weights)
    assert card.startswith(f"---\nbase_model: a/b\n{front_matter}\n")
    assert words in card


ROUTED_BY = "sorts training questions into classes"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, f"the base model's entropy at the answer token {ROUTED_BY}"),
        ({"method": CURRICULUM}, f"the base model's entropy at the answer token {ROUTED_BY}"),
        ({"method": SFT}, "every training question has the same target, and none is routed"),
        (
            {"split": {"strategy": "random_tokens", "counts": {"easy": 150, "hard": 450}}},
            "training questions are drawn at random into classes",
        ),
        (
            {"score": {"estimator": "judge_steps", "source": "model"}},
            f"the reasoning steps by a judge {ROUTED_BY}",
        ),
        (
            {"score": {"estimator": "cot_mean_entropy", "source": "model"}},
            f"the base model's mean CoT entropy {ROUTED_BY}",
        ),
        (
            {"score": {"estimator": "answer_entropy", "source": "published"}},
            "the answer entropy of the publisher's model, published with the questions, "
            f"{ROUTED_BY}",
        ),
    ],
)
def test_what_sorted_the_questions_is_that_of_this_run(changes: dict[str, Any], words: str) -> None:
    card = write(changes)
    assert words in card
    assert ("entropy at the answer token" in card) is ("entropy at the answer token" in words)


def test_a_split_that_training_did_not_use_is_no_part_of_the_method() -> None:
    assert "Split `entropy` by `answer_entropy`, which training did not use: " in write(
        {"method": SFT}
    )


def test_a_random_split_names_no_estimate() -> None:
    split = {"strategy": "random", "counts": {"easy": 150, "hard": 450}}
    assert "Split `random`: 150 easy" in write({"split": split})


def test_the_datas_source_is_named_where_it_is_the_hubs() -> None:
    card = write(recipe=replace(RECIPE, dataset_id="some/set", dataset_revision="77"))
    assert "\ndatasets: [some/set]\n" in card
    assert "`arithmetic` (`some/set` at revision `77`, fingerprint `abcdef`)" in card


def test_whoever_serves_it_reads_how_prompts_were_rendered() -> None:
    card = write()
    assert "rendered with `enable_thinking=False` and `date_string='1 Jan 2000'`" in card
    assert "Asked for a rationale, the model reads:" in card
    assert "```text\n<s>Think.</s>\n{question}\n```" in card
    plain = write(recipe=replace(RECIPE, template_switches=None))
    assert "No chat template was used; the reply follows after one space." in plain


def test_a_wording_with_backticks_stays_inside_its_block() -> None:
    card = write(recipe=replace(RECIPE, prompts={"answer": "Reply as\n```\nB\n```"}))
    assert "````text\nReply as\n```\nB\n```\n````" in card


def test_an_adapter_that_tuning_continued_from_is_mentioned() -> None:
    words = "Tuning continued from an existing adapter, and this is its shape."
    assert words in write(recipe=replace(RECIPE, continues=True))
    assert words not in write()


# A relative folder looks like a hub's id.
@pytest.mark.parametrize("path", ["/data/of/somebody/qwen", "somebody/qwen", "somebody/qwen/"])
def test_a_model_folder_is_named_without_its_path(path: str) -> None:
    recipe = replace(RECIPE, base_path=path)
    card = write_card(summary(path), recipe, Weights.adapter)
    assert "somebody" not in card
    assert "base_model:" not in card
    assert "`qwen` at revision" in card


def test_a_run_without_evaluation_says_so() -> None:
    card = write({"accuracy": None, "tuning": []})
    assert "Not measured: the run stopped before its evaluation." in card

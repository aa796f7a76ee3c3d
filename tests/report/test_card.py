"""The model card says data, method, base revision and numbers, and names no folder of ours."""

from __future__ import annotations

from typing import Any

from caft.report.card import write_card


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


def test_card_says_data_method_revision_and_numbers() -> None:
    card = write_card(summary("Qwen/Qwen2.5-3B-Instruct"))
    assert card.startswith("---\nbase_model: Qwen/Qwen2.5-3B-Instruct\n")
    assert "`Qwen/Qwen2.5-3B-Instruct` at revision `0a1b2c`; 10 of 1,000 parameters" in card
    assert "`arithmetic` (fingerprint `abcdef`): 600 training" in card
    assert "1. hard: rationale; 6 epochs, 150 rows" in card
    assert "best 50.0% after epoch 2, final 37.5%; the weights are those of epoch 6" in card
    assert "| answer | 50.0% (40.0% to 60.0%, n=90) | 55.0% (40.0% to 60.0%, n=90) |" in card
    assert "| routed | not measured | not measured |" in card


def test_a_model_folder_is_named_without_its_path() -> None:
    card = write_card(summary("/data/of/somebody/qwen"))
    assert "/data/of" not in card
    assert "base_model:" not in card
    assert "`qwen` at revision" in card


def test_a_run_without_evaluation_says_so() -> None:
    card = write_card({**summary("a/b"), "accuracy": None, "tuning": []})
    assert "Not measured: the run stopped before its evaluation." in card

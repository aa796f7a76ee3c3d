"""Each tiny architecture from questions to report, and the adapter that the run leaves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caft.data import load_questions
from caft.hydra_bridge import compose
from caft.models.sources.locate import locate_model
from caft.report.check import check_summary
from caft.score.prepare import prepare_rows
from caft.trainers.distributed import describe_threads

ARCHITECTURES = ("llama", "qwen2", "phi3")
CONTRACT = (
    ".hydra/config.yaml",
    "run.log",
    "summary.json",
    "report.html",
    "predictions.parquet",
    "scores.parquet",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "metrics.csv",
)
STAGES = [
    "score",
    "distill",
    "tune 1",
    "tune 2",
    "evaluate base rationale",
    "evaluate tuned answer",
    "evaluate tuned rationale",
]


@pytest.fixture(scope="session")
def run_of(shared: Any, whole_run: Any, small: Any) -> Callable[[str], Any]:
    @cache
    def run(architecture: str) -> Any:
        if architecture == "llama":
            return whole_run
        return shared.run(*small.words, f"model.architecture={architecture}", small.two_stages)

    return run


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_run_ends_well_and_leaves_what_was_promised(
    run_of: Callable[[str], Any], architecture: str
) -> None:
    run = run_of(architecture)
    assert run.status == 0, run.err
    check_summary(run.summary)
    assert [name for name in CONTRACT if not (run.folder / name).is_file()] == []
    assert run.stages == STAGES
    assert run.summary["dataset"]["counts"] == {"train": 40, "validation": 8, "test": 12}
    assert run.summary["split"]["counts"] == {"easy": 10, "middle": 20, "hard": 10}
    examples = [stage["examples"] for stage in run.summary["method"]["stages"]]
    assert examples == [30, 10]
    assert run.summary["model"]["parameters"] > run.summary["model"]["trainable_parameters"] > 0


def test_the_page_names_every_file_and_column(
    whole_run: Any, promised: dict[str, set[str]]
) -> None:
    assert {path.name for path in whole_run.folder.iterdir()} <= promised.keys()
    columns = whole_run.columns()
    assert len(columns) == 3
    assert columns == {name: promised[name] for name in columns}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_test_question_is_answered_once_by_each_model_in_each_mode(
    run_of: Callable[[str], Any], architecture: str
) -> None:
    rows = run_of(architecture).rows("predictions")
    asked = {(row["question_id"], row["model"], row["mode"]) for row in rows}
    assert len(asked) == len(rows) == 12 * 2 * 3
    scored = [row["split"] for row in run_of(architecture).rows("scores")]
    assert {name: scored.count(name) for name in set(scored)} == {
        "train": 40,
        "validation": 8,
        "test": 12,
    }


def test_the_tokens_of_every_stage_are_those_of_the_cost_and_of_the_prompts(
    whole_run: Any, small: Any
) -> None:
    rows = {row["name"]: row for row in whole_run.summary["stages"]}
    cost = whole_run.summary["cost"]
    trained = [rows[name]["tokens_trained"] for name in ("tune 1", "tune 2")]
    assert sum(trained) == cost["trained_total_tokens"]
    assert min(trained) > 0
    # Base and tuned model also gave 20 answers each, which one pass over the prompt costs.
    written = sum(row["tokens_written"] for row in rows.values())
    assert written == cost["evaluation_generated_tokens"] - 2 * 20 > 0
    config = compose([*small.words])
    _, tokenizer = _load(locate_model(config.model))
    questions = load_questions(config.dataset)
    asked = [*questions.train, *questions.validation, *questions.test]
    prompts = prepare_rows(asked, config.dataset.prompt, tokenizer, questions.shots)
    assert rows["score"]["tokens_read"] == sum(len(row.prompt_ids) for row in prompts)
    assert whole_run.summary["run"]["device"].endswith(f", {describe_threads(1)}")
    assert " tok/s)" in whole_run.out


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_adapter_loads_with_peft_and_is_the_model_that_was_examined(
    run_of: Callable[[str], Any], shared: Any, small: Any, architecture: str
) -> None:
    run = run_of(architecture)
    config = compose([*small.words, f"model.architecture={architecture}"])
    base, tokenizer = _load(locate_model(config.model))
    questions = load_questions(config.dataset)
    held_out = [*questions.validation, *questions.test]
    rows = prepare_rows(held_out, config.dataset.prompt, tokenizer, ())
    before = [_entropy(base, row.prompt_ids) for row in rows]

    from peft import PeftModel

    tuned = PeftModel.from_pretrained(base, run.folder / "adapter").eval()
    after = [_entropy(tuned, row.prompt_ids) for row in rows]
    # The full-vocabulary entropies that the run itself saw, from the store.
    examined = _examined_entropies(shared.store, run.fingerprint("evaluate tuned answer"))
    expected = [examined[question.id] for question in held_out]
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.subtract(before, after)).max() > 1e-3


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def _entropy(model: Any, prompt_ids: tuple[int, ...]) -> float:
    """Nats over the full vocabulary, by one plain forward pass without packing."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt_ids])).logits[0, -1]
    return float(torch.distributions.Categorical(logits=logits).entropy())


def _examined_entropies(store: Path, fingerprint: str) -> dict[str, float]:
    import pyarrow.parquet as pq

    table = pq.read_table(store / "evaluate" / fingerprint / "scores.parquet").to_pylist()
    return {row["question_id"]: dict(row["estimates"])["answer_entropy"] for row in table}


def test_a_base_model_without_any_right_answer_has_no_auc_and_says_why(whole_run: Any) -> None:
    area = whole_run.summary["score"]["roc_auc"]["answer_entropy"]
    assert (area["value"], area["low"], area["high"]) == (None, None, None)
    assert (area["n"], area["incorrect"]) == (40, 40)
    assert "all 40 rows are wrong" in area["reason"]


def test_nothing_secret_and_no_weights_of_the_base_model_are_left_behind(
    whole_run: Any,
) -> None:
    sizes = {path.name: path.stat().st_size for path in whole_run.folder.rglob("*.safetensors")}
    assert list(sizes) == ["adapter_model.safetensors"]
    # The names of variables stand in the config, their values nowhere: see test_secrets.py.
    page = (whole_run.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("API_KEY") == page.count("api_key_env: OPENAI_API_KEY")

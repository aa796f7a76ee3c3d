"""What is made once is taken from the store, and what must not be shared is not."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from transformers import PreTrainedModel

SPLITS = {
    "half": "split.quantiles=[0.5,0.75]",
    "random": "split=random",
}


@pytest.fixture(scope="session")
def again(shared: Any, whole_run: Any, small: Any) -> tuple[Any, list[str]]:
    """The whole run once more, where no model can be made, and what it imported of the model's."""

    def of_model() -> list[str]:
        return [name for name in sys.modules if ".modeling_llama" in name]

    with pytest.MonkeyPatch.context() as patch:
        for name in of_model():
            patch.delitem(sys.modules, name)
        # transformers keeps classes that it has imported.
        patch.setattr(PreTrainedModel, "__init__", None)
        return shared.run(*small.words, small.two_stages), of_model()


@pytest.fixture(scope="session")
def second(again: tuple[Any, list[str]]) -> Any:
    return again[0]


def test_a_second_identical_run_executes_no_stage(second: Any, whole_run: Any) -> None:
    assert (second.status, second.err) == (0, "")
    assert second.cached == second.stages == whole_run.stages


def test_a_second_identical_run_has_the_same_numbers(second: Any, whole_run: Any) -> None:
    own = {"run", "stages"}
    assert {key: value for key, value in second.summary.items() if key not in own} == {
        key: value for key, value in whole_run.summary.items() if key not in own
    }
    assert second.rows("predictions") == whole_run.rows("predictions")
    assert second.rows("scores") == whole_run.rows("scores")
    weights = "adapter/adapter_model.safetensors"
    assert (second.folder / weights).read_bytes() == (whole_run.folder / weights).read_bytes()


def test_a_second_identical_run_loads_no_model(again: tuple[Any, list[str]]) -> None:
    run, imported = again
    assert (run.status, imported) == (0, [])


@pytest.fixture(scope="session")
def other_seed(shared: Any, whole_run: Any, small: Any) -> Any:
    return shared.run(*small.words, small.two_stages, "seed=8")


def test_the_seed_is_no_part_of_scores_or_rationales_and_retunes(
    other_seed: Any, whole_run: Any
) -> None:
    assert other_seed.cached == ["score", "distill", "evaluate base rationale"]
    assert other_seed.fingerprint("score") == whole_run.fingerprint("score")
    assert other_seed.fingerprint("tune 1") != whole_run.fingerprint("tune 1")
    assert other_seed.summary["split"] == whole_run.summary["split"]


@pytest.mark.parametrize("words", SPLITS.values(), ids=SPLITS.keys())
def test_another_split_keeps_the_scores(
    shared: Any, whole_run: Any, small: Any, words: str
) -> None:
    run = shared.run(*small.words, words, "until=split")
    assert (run.status, run.cached) == (0, ["score"])
    assert run.fingerprint("score") == whole_run.fingerprint("score")


def test_methods_that_start_alike_share_their_first_stage(
    shared: Any, whole_run: Any, small: Any
) -> None:
    first = "{targets:{middle:answer,easy:answer},epochs:1}"
    then = "{targets:{hard:answer},epochs:1}"
    run = shared.run(
        *small.words, "method=curriculum", f"method.stages=[{first},{then}]", "until=tune"
    )
    assert run.cached == ["score", "tune 1"]
    assert run.stages == ["score", "tune 1", "tune 2"]
    assert run.fingerprint("tune 1") == whole_run.fingerprint("tune 1")


def test_other_questions_share_nothing(shared: Any, whole_run: Any, small: Any) -> None:
    run = shared.run(*small.words, "dataset.seed=1", "until=score")
    assert run.cached == []
    assert run.summary["dataset"]["fingerprint"] != whole_run.summary["dataset"]["fingerprint"]


def test_a_dry_run_writes_nothing_and_names_every_stage(workshop: Any, small: Any) -> None:
    dry = workshop.run(*small.words, small.two_stages, "dry_run=true")
    assert (dry.status, dry.err) == (0, "")
    assert workshop.made() == []
    assert not (dry.folder / "summary.json").exists()
    for stage in ("score", "split", "distill", "tune 1", "tune 2"):
        assert stage in dry.out
    assert "60 questions" in dry.out
    named = ("score", "tune", "evaluate")
    lines = [line for line in dry.out.splitlines() if line.lstrip().startswith(named)]
    assert len(lines) == 6
    assert all("would run" in line for line in lines)


def test_a_dry_run_after_a_run_says_what_is_cached(shared: Any, whole_run: Any, small: Any) -> None:
    made = shared.made()
    dry = shared.run(*small.words, small.two_stages, "dry_run=true")
    assert (dry.status, shared.made()) == (0, made)
    assert "would run" not in dry.out
    # Scores, two stages of tuning, three evaluations; worked solutions are free to read again.
    assert dry.out.count("cached") >= 6
    assert "10 easy, 20 middle, 10 hard" in dry.out

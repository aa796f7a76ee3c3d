"""Further data sets in whole runs: what they add, what the next run takes, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

ALSO = "evaluation.also=[{dataset:arithmetic,name:other,most_steps:3,test:20,max_new_tokens:4}]"
FURTHER = [f"evaluate {model} {mode}, other" for mode in ("answer", "rationale")
           for model in ("base", "tuned")]  # fmt: skip


@pytest.fixture(scope="module")
def run(shared: Any, whole_run: Any, small: Any) -> Any:
    return shared.run(*small.words, small.two_stages, ALSO)


def test_further_sets_leave_all_else_as_it_is(run: Any, whole_run: Any) -> None:
    # One model after the other, so that an engine starts once for each.
    assert (run.status, run.stages) == (0, [
        "score", "distill", "tune 1", "tune 2",
        FURTHER[0], "evaluate base rationale", FURTHER[2],
        "evaluate tuned answer", FURTHER[1], "evaluate tuned rationale", FURTHER[3],
    ])  # fmt: skip
    assert run.cached == whole_run.stages
    for part in ("score", "split", "accuracy", "tuning", "dataset"):
        assert run.summary[part] == whole_run.summary[part]
    assert run.rows("predictions") == whole_run.rows("predictions")
    assert "forgetting" not in whole_run.summary
    assert not (whole_run.folder / "forgetting.parquet").exists()


def test_the_rows_are_those_of_the_summary(run: Any, promised: dict[str, set[str]]) -> None:
    assert run.columns()["forgetting.parquet"] == promised["forgetting.parquet"]
    rows, tests = run.rows("forgetting"), run.summary["forgetting"]["tests"]
    assert [(test["dataset"], test["mode"]) for test in tests] == [
        ("other", "answer"), ("other", "rationale"),
    ]  # fmt: skip
    for test in tests:
        for model in ("base", "tuned"):
            own = [row for row in rows if (row["model"], row["mode"]) == (model, test["mode"])]
            assert len(own) == test[model]["n"] == 20 - test["left_out"]
            assert sum(row["correct"] for row in own) / len(own) == test[model]["value"]
            assert sum(row["parsed"] is None for row in own) == test["unparsable"][model]
    written = sum(row["generated_tokens"] for row in rows)
    main = [row for row in run.rows("predictions") if row["mode"] != "routed"]
    assert run.summary["cost"]["evaluation_generated_tokens"] >= written + sum(
        row["generated_tokens"] for row in main
    )


def test_another_method_takes_the_base_models_results(shared: Any, run: Any, small: Any) -> None:
    other = shared.run(*small.words, small.one_stage, ALSO)
    assert other.status == 0
    assert {name for name in other.cached if "other" in name} == {FURTHER[0], FURTHER[2]}
    for name in (FURTHER[0], FURTHER[2]):
        assert other.fingerprint(name) == run.fingerprint(name)
    card = (other.folder / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "- other, answer mode: " in card


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluation.also=[arithmetic]",), "is this run's dataset"),
        (("evaluation.also=[sums]",), "evaluation.also, sums: no such data set; there are arc, "),
        (("evaluation.also=[{dataset:mixed,grader:nope}]",), "also, mixed: dataset.grader is "),
        (("evaluation.also=[{dataset:local,test_path:none.jsonl}]",), "evaluation.also, local: "),
        ((ALSO.replace("test:20", "test:20,prompt:{style:chat}"), "evaluation.thinking=true"),
         "thinking"),
    ],
    ids=["same", "unknown", "grader", "no file", "mode"],
)  # fmt: skip
def test_what_cannot_be_evaluated_ends_before_a_model_loads(
    workshop: Any, small: Any, words: tuple[str, ...], said: str
) -> None:
    refused = workshop.run(*small.words, small.two_stages, *words)
    assert refused.status == 2
    line = refused.err.strip().splitlines()[-1]
    assert said in line, refused.err
    assert not workshop.made()

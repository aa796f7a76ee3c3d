import json
from typing import Any

import pytest

from caft.report.schema import Summary, check_summary


def test_the_sample_run_holds_the_contract(sample: Any) -> None:
    check_summary(sample.summary)
    check_summary(json.loads(json.dumps(sample.summary)))


def test_top_level_keys_are_those_of_the_run_contract() -> None:
    assert set(Summary.__annotations__) == {
        "schema",
        *("run", "model", "dataset", "score", "split", "method", "accuracy", "cost", "stages"),
        # Not in the first contract; where no stage was tuned it may be absent.
        "tuning",
    }


def test_parts_that_were_not_reached_are_null(sample: Any) -> None:
    sample.summary.update(split=None, accuracy=None, score=None)
    check_summary(sample.summary)


def test_more_keys_are_allowed(sample: Any) -> None:
    sample.summary["run"]["host_note"] = "anything"
    check_summary(sample.summary)


def spoil(summary: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        summary = summary[key]
    summary[last] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema", 2, "summary.schema is 2"),
        ("run.seed", "42", "summary.run.seed is '42', not int"),
        ("run.seed", True, "summary.run.seed is True, not int"),
        ("cost", None, "summary.cost is None, not a table"),
        ("dataset.counts.train", 1.5, "summary.dataset.counts.train is 1.5, not int"),
        ("accuracy.base.answer.unparsable", None, "unparsable is None, not int"),
        ("accuracy.tuned.routed.low", 0.99, "summary.accuracy.tuned.routed has low, value, high"),
        ("split.thresholds", [0.5, "1"], "summary.split.thresholds.1 is '1', not float"),
        ("method.stages", {}, "summary.method.stages is {}, not a list"),
        ("score.roc_auc.answer_entropy", {"value": None}, "answer_entropy.low is missing"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    sample: Any, path: str, value: Any, said: str
) -> None:
    spoil(sample.summary, path, value)
    with pytest.raises(ValueError, match=said.replace("{}", r"\{\}")):
        check_summary(sample.summary)


def test_every_missing_key_is_named(sample: Any) -> None:
    del sample.summary["run"]["device"], sample.summary["stages"][0]["cached"]
    with pytest.raises(ValueError, match=r"run.device is missing; .*stages.0.cached is missing"):
        check_summary(sample.summary)


def test_nan_is_no_json(sample: Any) -> None:
    sample.summary["cost"]["train_flops"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        check_summary(sample.summary)

import json
from typing import Any

import pytest

from caft.report.check import check_summary
from caft.report.schema import Summary


def test_the_sample_run_holds_the_contract(sample: Any) -> None:
    check_summary(sample.summary)
    check_summary(json.loads(json.dumps(sample.summary)))


def test_top_level_keys_are_those_of_the_run_contract() -> None:
    assert set(Summary.__annotations__) == {
        "schema",
        *("run", "model", "dataset", "score", "split", "method", "accuracy", "cost", "stages"),
        # Not in the first contract; where no stage was tuned it may be absent.
        "tuning",
        # Nor these; summaries of earlier versions have none.
        *("warnings", "engine", "grading", "forgetting"),
    }


def test_parts_that_were_not_reached_are_null(sample: Any) -> None:
    sample.summary.update(split=None, accuracy=None, score=None)
    check_summary(sample.summary)


def test_more_keys_and_whole_numbers_are_fine_and_nothing_is_changed(sample: Any) -> None:
    sample.summary["run"]["host_note"] = "anything"
    sample.summary["cost"]["teacher_usd"] = 0
    assert check_summary(sample.summary) is sample.summary


def spoil(summary: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        summary = summary[key]
    summary[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "summary.schema is 2"),
        ("run.seed", "42", "summary.run.seed is '42': Input should be a valid integer"),
        ("run.seed", True, "summary.run.seed is True: Input should be a valid integer"),
        ("cost", None, "summary.cost is None: Input should be a valid dictionary"),
        (
            "dataset.counts.train",
            1.5,
            "summary.dataset.counts.train is 1.5: Input should be a valid int",
        ),
        (
            "accuracy.base.answer.unparsable",
            None,
            "answer.unparsable is None: Input should be a valid integer",
        ),
        ("accuracy.tuned.routed.low", 0.99, "summary.accuracy.tuned.routed has low, value, high"),
        (
            "split.thresholds",
            [0.5, "1"],
            "summary.split.thresholds.1 is '1': Input should be a valid num",
        ),
        ("method.stages", {}, "summary.method.stages is {}: Input should be a valid list"),
        ("score.roc_auc.answer_entropy", {"value": None}, "answer_entropy.low: Field required"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    sample: Any, path: str, value: Any, message: str
) -> None:
    spoil(sample.summary, path, value)
    with pytest.raises(ValueError, match=message.replace("{}", r"\{\}")):
        check_summary(sample.summary)


def test_every_missing_key_is_named(sample: Any) -> None:
    del sample.summary["run"]["device"], sample.summary["stages"][0]["cached"]
    with pytest.raises(
        ValueError, match=r"run.device: Field required; .*stages.0.cached: Field req"
    ):
        check_summary(sample.summary)


def test_nan_is_no_json(sample: Any) -> None:
    sample.summary["cost"]["train_flops"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        check_summary(sample.summary)

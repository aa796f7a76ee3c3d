"""The command of a run's report that would test its routing: what it starts when it is typed."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from caft.report.run.next_step import compare_with_control
from caft.split.config import EntropySplitConfig, Match, RandomSplitConfig, Within
from caft.split.cuts import place_at_random

# Each composes six jobs.
pytestmark = pytest.mark.slow

ONE_CLASS = [{"targets": {"easy": "answer"}}, {"targets": {"hard": "rationale"}}]
TWO_CLASSES = [{"targets": {"middle": "rationale", "hard": "rationale"}}]


def make_summary(
    overrides: list[str], strategy: str, stages: list[dict[str, Any]], estimator: str | None
) -> Any:
    return {
        "run": {"overrides": overrides},
        "method": {"name": "any", "stages": stages},
        "split": {
            "strategy": strategy,
            "estimator": estimator,
            "counts": {"easy": 20, "middle": 50, "hard": 30},
        },
    }


@pytest.mark.parametrize(
    ("overrides", "strategy", "stages", "estimator", "routed", "control"),
    [
        (
            ["seed=7", "until=evaluate"],
            *("entropy", ONE_CLASS, "answer_entropy"),
            EntropySplitConfig(),
            RandomSplitConfig(match=Match.calls),
        ),
        (
            ["method=short_and_long", "split.quantiles=[0.3,0.6]"],
            *("entropy", TWO_CLASSES, "answer_entropy"),
            EntropySplitConfig(quantiles=[0.3, 0.6]),
            RandomSplitConfig(quantiles=[0.3, 0.6]),
        ),
        (
            ["split=entropy", "split.estimator=top1_margin", "split.within=subject"],
            *("entropy_within_subject", ONE_CLASS, "top1_margin"),
            EntropySplitConfig(estimator="top1_margin", within=Within.subject),
            RandomSplitConfig(match=Match.calls, reference="top1_margin", within=Within.subject),
        ),
        (
            ["split=random", "split.match=tokens"],
            *("random_tokens", ONE_CLASS, None),
            EntropySplitConfig(),
            RandomSplitConfig(match=Match.tokens),
        ),
    ],
)
def test_it_starts_the_own_rule_and_its_control_under_three_seeds(  # noqa: PLR0917
    front_door: Callable[..., int],
    started: Any,
    overrides: list[str],
    strategy: str,
    stages: list[dict[str, Any]],
    estimator: str | None,
    routed: EntropySplitConfig,
    control: RandomSplitConfig,
) -> None:
    own = ["model=tiny", "dataset=arithmetic", "dataset.train=60", *overrides]
    command = compare_with_control(make_summary(own, strategy, stages, estimator))
    program, file, *words = shlex.split(command)
    assert (program, file) == ("python", "train.py")
    assert front_door(*words) == 0
    splits = [config.split for config, _ in started]
    assert splits == [routed] * 3 + [control] * 3
    assert [config.seed for config, _ in started] == [1, 2, 3] * 2
    assert {config.dataset.train for config, _ in started} == {60}  # type: ignore[attr-defined]


def test_cuts_in_nats_have_a_control_of_the_same_sizes(
    front_door: Callable[..., int], started: Any
) -> None:
    own = ["model=tiny", "split=entropy_threshold", "split.thresholds=[0.4,1.2]"]
    command = compare_with_control(
        make_summary(own, "entropy_threshold", ONE_CLASS, "answer_entropy")
    )
    assert front_door(*shlex.split(command)[2:]) == 0
    first, *_, last = (config.split for config, _ in started)
    assert first.thresholds == [0.4, 1.2]  # type: ignore[attr-defined]
    assert last == RandomSplitConfig(match=Match.calls, quantiles=[0.2, 0.7])


def test_a_class_without_questions_has_a_control_without_any(
    front_door: Callable[..., int], started: Any
) -> None:
    own = ["model=tiny", "split=entropy_threshold", "split.thresholds=[0.4,0.41]"]
    summary = make_summary(own, "entropy_threshold", ONE_CLASS, "answer_entropy")
    summary["split"]["counts"] = {"easy": 20, "middle": 0, "hard": 30}
    assert front_door(*shlex.split(compare_with_control(summary))[2:]) == 0
    control = started[-1][0].split
    placed = place_at_random(50, control.quantiles, control.classes, Random(1))
    assert Counter(placed) == {"easy": 20, "hard": 30}

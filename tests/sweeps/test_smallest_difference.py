"""What a dry run says about the size of a sweep."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from scipy.stats import t

from caft.hydra_bridge import compose
from caft.run_config import RunConfig, Until
from caft.statistics.calibrate import CALM, WILD, smallest_difference_seen
from caft.sweeps.smallest_difference import describe_smallest_difference


@cache
def config(method: str, *words: str) -> RunConfig:
    return compose([f"method={method}", "dataset.train=30", "dataset.test=50", *words])


def sweep(seeds: int, *, methods: tuple[str, ...] = ("sft", "distill")) -> list[RunConfig]:
    return [
        replace(config(method), seed=seed) for method in methods for seed in range(1, seeds + 1)
    ]


def test_it_is_the_formulas_at_the_sweeps_size() -> None:
    text = describe_smallest_difference(sweep(4))
    for spread in (CALM, WILD):
        gap = smallest_difference_seen(50, 4, spread)
        assert gap is not None
        assert f"{100 * gap:.3g} points if" in text
    assert "With 50 test questions and 4 seeds a setting, the smallest difference" in text


def test_many_settings_are_corrected_for() -> None:
    three = sweep(4, methods=("sft", "distill", "base"))
    text = describe_smallest_difference(three)
    assert "corrected for all 3 pairs of settings, " in text
    # By hand: (t of 0.05 / 3, two-sided, + t of 0.8) times the root of 0.3 / 50.
    by_test = (t.ppf(1 - 0.05 / 6, 49) + t.ppf(0.8, 49)) * (0.3 / 50) ** 0.5
    found = smallest_difference_seen(50, 4, CALM, comparisons=3)
    assert found == pytest.approx(by_test, rel=0.03)
    assert found > (smallest_difference_seen(50, 4, CALM) or 1)
    # Where seeds hide more than the test does, the correction changes nothing.
    wild = smallest_difference_seen(50, 4, WILD)
    assert wild == smallest_difference_seen(50, 4, WILD, comparisons=3)
    assert "pairs" not in describe_smallest_difference(sweep(4))


def test_too_few_seeds_are_named_first() -> None:
    text = describe_smallest_difference(sweep(1))
    assert text.startswith("With 1 seed a setting, the report will say 'not enough data'")
    assert "With 50 test questions and 3 seeds a setting, the smallest" in text


def test_the_setting_with_fewest_seeds_and_the_smallest_test_set_decide() -> None:
    jobs = [*sweep(5), *sweep(3, methods=("base",))]
    jobs += [replace(config("base", "dataset.test=40"), seed=seed) for seed in (1, 2, 3)]
    assert "40 test questions and 3 seeds" in describe_smallest_difference(jobs)


@pytest.mark.parametrize("until", [Until.score, Until.tune])
def test_what_is_not_evaluated_has_no_difference(until: Until) -> None:
    assert not describe_smallest_difference([replace(job, until=until) for job in sweep(3)])


def test_one_setting_has_nothing_to_differ_from() -> None:
    assert not describe_smallest_difference(sweep(5, methods=("sft",)))


def test_questions_that_are_not_here_are_not_counted() -> None:
    path = "dataset.train_path=nowhere.jsonl"
    jobs = [compose([f"method={method}", "dataset=local", path]) for method in ("sft", "distill")]
    assert not describe_smallest_difference(jobs)

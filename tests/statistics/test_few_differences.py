"""Where few questions tell two arms apart, resamples of them do not: the score test's bounds do."""

import numpy as np
import pytest

from caft.statistics import (
    MARGIN,
    PairedOutcome,
    compare_arms,
    paired_difference,
    resample_means,
    score_difference,
)
from caft.statistics.seeds import difference_interval


def test_bounds_contain_those_of_the_score_test_if_fewer_than_five_point_one_way() -> None:
    few = PairedOutcome(n=60, only_first=4, only_second=9)
    found, score = paired_difference(few), score_difference(few)
    assert found.low <= score.low
    assert found.high >= score.high
    # With five of either kind the percentiles stand alone: they are narrower.
    many = PairedOutcome(n=60, only_first=5, only_second=9)
    assert paired_difference(many).low > score_difference(many).low


def draw(generator: np.random.Generator, n: int, won: float, lost: float) -> tuple[list[bool], ...]:
    """Both models' outcomes where the second wins and loses questions with these chances."""
    kind = generator.random(n)
    first, second = kind < lost + 0.3, (kind >= lost) & (kind < lost + 0.3 + won)
    return first.tolist(), second.tolist()


def test_a_gain_of_five_points_is_rarely_ruled_out() -> None:
    generator, ruled_out = np.random.default_rng(7), {"percentiles": 0, "as reported": 0}
    for _ in range(250):
        first, second = draw(generator, 20, won=0.10, lost=0.05)
        # Three seeds that agree: what is known of other seeds does not widen the interval.
        arms = {"a": dict.fromkeys(range(3), first), "b": dict.fromkeys(range(3), second)}
        means = resample_means({name: [*rows.values()] for name, rows in arms.items()})
        ruled_out["percentiles"] += difference_interval(means["a"], means["b"]).high < MARGIN
        (gap,) = compare_arms(arms, [("a", "b")])
        ruled_out["as reported"] += gap.difference.high < MARGIN
    assert ruled_out["percentiles"] > 0.05 * 250
    assert ruled_out["as reported"] < 0.025 * 250


def test_seeds_that_differ_on_other_questions_count_for_what_they_say() -> None:
    # Five seeds, each with two wins and two losses at questions of its own: ten of either kind.
    first, second = np.zeros((5, 200), dtype=bool), np.zeros((5, 200), dtype=bool)
    for seed in range(5):
        second[seed, [seed, 50 + seed]] = first[seed, [100 + seed, 150 + seed]] = True
    arms = {"a": dict(enumerate(first.tolist())), "b": dict(enumerate(second.tolist()))}
    (apart,) = compare_arms(arms, [("a", "b")])
    means = resample_means({name: [*rows.values()] for name, rows in arms.items()})
    assert apart.difference == difference_interval(means["a"], means["b"])
    # The same two wins and losses in every seed are four questions, however many seeds there are.
    alike = {name: dict.fromkeys(range(5), rows[0]) for name, rows in arms.items()}
    (once,) = compare_arms(alike, [("a", "b")])
    outcome = PairedOutcome(n=200, only_first=2, only_second=2)
    assert once.difference.high == pytest.approx(score_difference(outcome).high)

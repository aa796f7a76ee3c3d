"""What a sweep says about two arms, by hand and against its parts."""

from __future__ import annotations

import numpy as np
import pytest

from caft.statistics import compare_arms, resample_means, smallest_paired_difference
from caft.statistics.arms import pair_seeds
from caft.statistics.seeds import detectable_difference, joint_level

A, B, C = [True], [False], [True, True]


def test_seeds_are_paired_by_number_and_the_others_in_order() -> None:
    assert pair_seeds({1: A, 2: B}, {2: C, 3: A}) == [(B, C), (A, A)]
    assert pair_seeds({1: A, 2: B}, {3: A, 2: C, 4: B}) == [(B, C), (A, A)]
    assert pair_seeds({1: A, 2: B}, {7: C, 8: B}) == [(A, C), (B, B)]
    assert pair_seeds({1: A, 2: B}, {7: C}) == [(A, C)]


def test_two_arms_by_hand() -> None:
    first = {1: [True, True, False, False], 2: [True, False, False, False], 5: [True] * 4}
    second = {1: [True, False, True, True], 2: [True, True, True, False]}
    (found,) = compare_arms({"a": first, "b": second}, [("a", "b")])
    # Of the eight replies of seeds 1 and 2 that both have: one lost, four won.
    assert (found.only_first, found.only_second, found.seeds) == (1, 4, 2)
    # Sums over seeds: 0, -1 + 1, 1 + 1 and 1. All signs up, or all down: 2 of 4.
    assert found.p_value == pytest.approx(0.5)
    assert found.difference.value == pytest.approx(6 / 8 - (2 / 4 + 1 / 4 + 1) / 3)
    assert found.difference.n == 4


def test_the_test_rests_on_as_many_seeds_as_it_says() -> None:
    """Seed 3 alone is in both; the second arm wins two questions under every seed, and one more."""
    first = {seed: [False] * 6 for seed in (1, 2, 3)}
    second = {3: [True] * 2 + [False] * 4, 4: [True] * 2 + [False] * 4, 5: [True] * 3 + [False] * 3}
    (found,) = compare_arms({"a": first, "b": second}, [("a", "b")])
    assert (found.only_first, found.only_second, found.seeds) == (0, 7, 3)
    # Sums of 3, 3 and 1, all up or all down; of the one shared seed it would be 2 of 4.
    assert found.p_value == pytest.approx(2 / 2**3)
    # No seed is the same: which are paired does not matter, since the sums do not change.
    (apart,) = compare_arms({"a": first, "b": {seed + 9: row for seed, row in second.items()}},
                            [("a", "b")])  # fmt: skip
    assert apart == found


ROWS = np.random.default_rng(5).random((9, 60)) < np.repeat([0.4, 0.5, 0.6], 3)[:, None]
ARMS = {name: dict(enumerate(ROWS[3 * k : 3 * k + 3].tolist())) for k, name in enumerate("abc")}
PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def test_the_smallest_difference_is_over_what_the_interval_is() -> None:
    """One over questions alone would be below differences that the verdict cannot tell."""
    found = compare_arms(ARMS, PAIRS)
    means = resample_means({name: [*rows.values()] for name, rows in ARMS.items()})
    for (one, two), gap in zip(PAIRS, found, strict=True):
        assert gap.detectable == detectable_difference(means[one], means[two], 0.95, 3)
    single = {name: {0: rows[0]} for name, rows in ARMS.items()}
    for (one, two), gap in zip(PAIRS, compare_arms(single, PAIRS), strict=True):
        differing = float(np.mean(np.not_equal(ARMS[one][0], ARMS[two][0])))
        assert gap.detectable == smallest_paired_difference(60, differing, alpha=0.05 / 3)
    (alone,) = compare_arms(single, PAIRS[:1])
    (of_many,) = compare_arms(single, PAIRS[:1], tests=3)
    assert alone.detectable < of_many.detectable == compare_arms(single, PAIRS)[0].detectable
    assert found == compare_arms(ARMS, PAIRS, together=False, seed=0)
    assert found != compare_arms(ARMS, PAIRS, seed=1)


def test_a_pair_has_one_interval_whatever_the_order_of_the_arms() -> None:
    backwards = compare_arms(dict(reversed(ARMS.items())), [(two, one) for one, two in PAIRS])
    for gap, back in zip(compare_arms(ARMS, PAIRS), backwards, strict=True):
        bounds = gap.difference.low, gap.difference.high
        assert bounds == pytest.approx((-back.difference.high, -back.difference.low))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_together_they_have_the_joint_level(confidence: float) -> None:
    apart = compare_arms(ARMS, PAIRS, confidence)
    together = compare_arms(ARMS, PAIRS, confidence, together=True)
    means = resample_means({name: [*rows.values()] for name, rows in ARMS.items()})
    couples = [(means[one], means[two]) for one, two in PAIRS]
    level = joint_level(couples, confidence)
    assert confidence < level < 1 - (1 - confidence) / 3  # less than Bonferroni's correction
    for alone, joint, couple in zip(apart, together, couples, strict=True):
        assert joint.difference.low < alone.difference.low < alone.difference.value
        assert joint.detectable == pytest.approx(detectable_difference(*couple, level, 3))

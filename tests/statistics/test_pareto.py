import itertools
import random

from caft.statistics import pareto_front


def test_by_hand_with_a_tie_and_a_point_that_is_beaten_on_both() -> None:
    points = [(3.0, 0.6), (0.0, 0.4), (1.0, 0.5), (2.0, 0.45), (1.0, 0.45), (4.0, 0.6)]
    assert pareto_front(points) == [1, 2, 0]


def test_equal_points_stand_together() -> None:
    assert sorted(pareto_front([(1.0, 0.5), (1.0, 0.5), (2.0, 0.5)])) == [0, 1]


def test_agrees_with_comparing_all_pairs() -> None:
    dice = random.Random(2)
    for _ in range(50):
        points = [(dice.randint(0, 6), dice.randint(0, 6)) for _ in range(12)]
        beaten = {
            j
            for i, j in itertools.permutations(range(12), 2)
            if points[i][0] <= points[j][0]
            and points[i][1] >= points[j][1]
            and points[i] != points[j]
        }
        assert set(pareto_front(points)) == set(range(12)) - beaten


def test_nothing_has_no_front() -> None:
    assert pareto_front([]) == []

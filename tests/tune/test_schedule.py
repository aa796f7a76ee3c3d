"""The learning rate's factor at the steps a reader would ask about."""

from __future__ import annotations

import math

import pytest

from caft.tune.config import Part, Schedule


def factors(schedule: Schedule, steps: int, warmup_steps: int) -> list[float]:
    return [schedule.factor(step, steps, warmup_steps) for step in range(steps)]


def test_constant_after_a_warm_up_whose_first_step_moves_already():
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert factors(Schedule.constant, 6, 4) == pytest.approx(expected)


def test_linear_falls_towards_zero_and_never_trains_with_it():
    assert factors(Schedule.linear, 4, 0) == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert factors(Schedule.linear, 5, 1) == pytest.approx([1.0, 1.0, 0.75, 0.5, 0.25])


def test_cosine_by_hand():
    root = math.sqrt(0.5)
    expected = [1.0, 0.5 * (1 + root), 0.5, 0.5 * (1 - root)]
    assert factors(Schedule.cosine, 4, 0) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", Schedule)
def test_a_warm_up_longer_than_the_stage_only_warms_up(schedule):
    assert factors(schedule, 2, 4) == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize("schedule", Schedule)
def test_the_parts_of_a_stage_have_the_rates_of_the_whole(schedule):
    whole = factors(schedule, 12, 5)
    parts = [Part(0, epoch, 3).factor(schedule, step, 4, 5)
             for epoch in range(3) for step in range(4)]  # fmt: skip
    assert parts == whole

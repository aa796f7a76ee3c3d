import numpy as np
import pytest

from caft.statistics import Interval, wilson_interval
from caft.statistics.intervals import open_interval, percentile_interval


def test_worked_out_by_hand() -> None:
    # z = 2 (confidence 0.9545): p = 1/2, n = 4; centre 1/2, reach 2 / (1 + 1) * sqrt(1/16 + 1/16).
    interval = wilson_interval(2, 4, 0.954499736)
    assert (interval.value, interval.n) == (0.5, 4)
    assert interval.low == pytest.approx(0.5 - (1 / 8) ** 0.5, abs=1e-6)
    assert interval.high == pytest.approx(0.5 + (1 / 8) ** 0.5, abs=1e-6)


def test_keeps_a_width_when_everything_is_right_and_stays_within_one() -> None:
    interval = wilson_interval(50, 50)
    assert isinstance(interval, Interval)
    assert 0.9 < interval.low < 0.95
    assert interval.high == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 4)])
def test_impossible_counts_are_our_fault(successes: int, n: int) -> None:
    with pytest.raises(AssertionError):
        wilson_interval(successes, n)


def test_draws_that_are_all_alike_leave_what_wilson_leaves_at_this_confidence() -> None:
    found = open_interval(0.0, np.zeros(20), 10, 0.8, least=-1.0)
    reach = wilson_interval(0, 10, 0.8).high
    assert found == Interval(0.0, -reach, reach, 10)
    assert percentile_interval(0.5, np.linspace(0, 1, 101), 7, 0.9).n == 7

import pytest
from scipy.stats import binomtest

from caft.statistics import Interval, wilson_interval


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 10), (417, 1172)]
)
def test_agrees_with_scipy(successes: int, n: int, confidence: float) -> None:
    ours = wilson_interval(successes, n, confidence)
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.value == successes / n
    assert ours.n == n


def test_worked_out_by_hand() -> None:
    # z = 2 (confidence 0.9545): p = 1/2, n = 4; centre 1/2, reach 2 / (1 + 1) * sqrt(1/16 + 1/16).
    interval = wilson_interval(2, 4, 0.954499736)
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

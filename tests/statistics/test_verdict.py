import pytest

from caft.statistics import Interval, Verdict, judge_difference


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "verdict"),
    [
        (0.01, 0.09, 0.01, 3, Verdict.yes),
        (0.01, 0.09, 0.2, 3, Verdict.unclear),  # the corrected test does not agree
        (-0.01, 0.09, 0.01, 3, Verdict.unclear),  # the interval does not agree
        (-0.08, -0.02, 0.01, 3, Verdict.no),
        (-0.015, 0.015, 0.9, 3, Verdict.no),  # nothing worth routing for is left
        (-0.05, 0.05, 0.9, 3, Verdict.unclear),
        (0.1, 0.3, 0.0, 2, Verdict.unclear),  # other seeds may say anything
        (-0.3, -0.1, 0.0, 2, Verdict.unclear),
    ],
)
def test_yes_no_or_not_enough_data(
    low: float, high: float, p: float, seeds: int, verdict: Verdict
) -> None:
    difference = Interval((low + high) / 2, low, high, 300)
    assert judge_difference(difference, p, seeds) is verdict

import pytest

from caft.statistics import (
    ALPHA,
    MARGIN,
    WORTHWHILE_GAIN,
    Interval,
    Verdict,
    is_clear,
    judge_difference,
    judge_forgetting,
)


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "verdict"),
    [
        (0.01, 0.09, 0.01, 3, Verdict.yes),
        (0.0, 0.09, 0.01, 3, Verdict.unclear),  # 0 itself is not ruled out
        (0.01, 0.09, ALPHA, 3, Verdict.unclear),
        (-0.05, WORTHWHILE_GAIN, 0.9, 3, Verdict.unclear),  # nor is the least gain that counts
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


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (-0.12, -0.04, 0.01, Verdict.yes),
        (-0.12, -0.04, 0.2, Verdict.unclear),  # the corrected test does not agree
        (-0.12, 0.0, 0.01, Verdict.unclear),
        (-0.12, -0.04, ALPHA, Verdict.unclear),
        (-0.12, 0.01, 0.01, Verdict.unclear),  # the interval does not agree
        (-0.019, 0.05, 0.9, Verdict.no),
        (-0.019, -0.001, 0.01, Verdict.no),  # clear, and too small to matter
        (-MARGIN, 0.05, 0.9, Verdict.unclear),  # a loss of the margin is not ruled out
        (0.01, 0.05, 0.01, Verdict.no),
    ],
)
def test_forgetting_is_a_clear_loss_and_its_absence_is_shown(
    low: float, high: float, p: float, verdict: Verdict
) -> None:
    change = Interval((low + high) / 2, low, high, 300)
    assert judge_forgetting(change, p) is verdict


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "clear"),
    [
        (0.01, 0.2, 0.01, 2, True),
        (-0.2, -0.01, 0.01, 2, True),
        (0.01, 0.2, 0.01, 1, False),  # of one seed nothing is known about others
        (0.01, 0.2, ALPHA, 2, False),
        (0.0, 0.2, 0.01, 2, False),
        (-0.2, 0.0, 0.01, 2, False),
    ],
)
def test_a_clear_difference_needs_test_interval_and_seeds(
    low: float, high: float, p: float, seeds: int, clear: bool
) -> None:
    assert is_clear(Interval((low + high) / 2, low, high, 300), p, seeds) is clear

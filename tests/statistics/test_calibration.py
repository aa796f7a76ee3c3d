import pytest

from caft.statistics import expected_calibration_error


def test_calibration_error_by_hand() -> None:
    # Bin [0.9, 1]: 4 rows, said 0.95, right 3 of 4: gap 0.2. Bin [0.2, 0.3): 1 row, gap 0.25.
    stated, right = [0.95, 0.95, 0.95, 0.95, 0.25], [True, True, True, False, False]
    expected = (4 * 0.2 + 1 * 0.25) / 5
    assert expected_calibration_error(stated, right) == pytest.approx(expected)


def test_ten_bins_of_which_the_last_holds_certainty() -> None:
    # Bins [0.2, 0.3): 0.21 - 0.71. [0.8, 0.9): -0.15. [0.9, 1]: 0.95 + 1.
    stated, right = [0.21, 0.29, 0.85, 0.95, 1.0], [False, True, True, False, False]
    assert expected_calibration_error(stated, right) == pytest.approx((0.5 + 0.15 + 1.95) / 5)


def test_certainty_falls_into_the_last_bin_and_gaps_within_a_bin_cancel() -> None:
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0.0
    assert expected_calibration_error([0.5, 0.5], [True, False], bins=2) == 0.0


def test_a_percentage_is_refused() -> None:
    with pytest.raises(AssertionError, match="outside 0 to 1"):
        expected_calibration_error([80.0], [True])

import pytest

from caft.statistics import holm_adjusted


def test_by_hand_in_the_order_given() -> None:
    # Ascending: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1.
    assert holm_adjusted([0.5, 0.01, 0.03, 0.02]) == pytest.approx((0.5, 0.04, 0.06, 0.06))


def test_never_falls_below_an_earlier_one_nor_rises_past_one() -> None:
    assert holm_adjusted([0.04, 0.04, 0.041]) == pytest.approx((0.12, 0.12, 0.12))
    assert holm_adjusted([0.6, 0.9]) == (1.0, 1.0)


def test_one_test_alone_and_none_at_all() -> None:
    assert holm_adjusted([0.03]) == (0.03,)
    assert holm_adjusted([]) == ()
    with pytest.raises(AssertionError):
        holm_adjusted([1.2])

"""Every formula that statsmodels has as well gives its numbers."""

from __future__ import annotations

import random

import pytest

from caft.statistics import (
    holm_adjusted,
    mcnemar_exact,
    wilson_interval,
)

contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
multitest = pytest.importorskip("statsmodels.stats.multitest")
proportion = pytest.importorskip("statsmodels.stats.proportion")


@pytest.mark.parametrize("successes", [0, 1, 37, 99, 100])
def test_wilson(successes: int) -> None:
    found = wilson_interval(successes, 100, 0.9)
    low, high = proportion.proportion_confint(successes, 100, alpha=0.1, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("one", "two"), [(0, 0), (3, 9), (9, 3), (40, 41), (120, 70)])
def test_mcnemar(one: int, two: int) -> None:
    expected = 1.0 if one == two == 0 else contingency.mcnemar([[5, one], [two, 7]]).pvalue
    assert mcnemar_exact(one, two) == pytest.approx(expected, rel=1e-9)


def test_holm() -> None:
    dice = random.Random(1)
    for count in (1, 2, 7, 30):
        p_values = [dice.random() ** 3 for _ in range(count)]
        expected = multitest.multipletests(p_values, method="holm")[1]
        assert holm_adjusted(p_values) == pytest.approx(tuple(expected))

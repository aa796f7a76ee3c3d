import numpy as np
import pytest
from sklearn.metrics import roc_curve

from caft.statistics import roc_auc, roc_points


def test_agrees_with_sklearn_point_by_point() -> None:
    generator = np.random.default_rng(0)
    wrong = generator.random(200) < 0.3
    scores = np.round(generator.normal(size=200) + wrong, 1)
    alarms, hits, cuts = roc_curve(wrong, scores, drop_intermediate=False)
    ours = roc_points(list(scores), list(wrong))
    assert [point.false_positive_rate for point in ours] == pytest.approx(list(alarms))
    assert [point.true_positive_rate for point in ours] == pytest.approx(list(hits))
    assert [point.threshold for point in ours] == pytest.approx(list(cuts))


def test_tied_rows_move_together_and_the_area_below_is_the_auc() -> None:
    scores, wrong = [2.0, 2.0, 1.0, 1.0, 1.0], [True, False, True, False, False]
    points = roc_points(scores, wrong)
    assert [(p.false_positive_rate, p.true_positive_rate) for p in points] == [
        (0.0, 0.0),
        (pytest.approx(1 / 3), 0.5),
        (1.0, 1.0),
    ]
    below = np.trapezoid(
        [p.true_positive_rate for p in points], [p.false_positive_rate for p in points]
    )
    assert below == pytest.approx(roc_auc(scores, wrong).value)


def test_a_curve_ends_at_one_also_where_the_lowest_score_is_a_positive() -> None:
    points = roc_points([2.0, 1.0], [False, True])
    assert [(p.false_positive_rate, p.true_positive_rate) for p in points] == [
        (0.0, 0.0), (1.0, 0.0), (1.0, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [[True, True], [False, False]])
def test_one_kind_alone_has_no_curve(wrong: list[bool]) -> None:
    with pytest.raises(AssertionError):
        roc_points([1.0, 2.0], wrong)

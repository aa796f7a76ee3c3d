import pytest

from caft.errors import UserError
from caft.estimators import ESTIMATORS, Need, find_estimator, needs_of
from caft.records import LOWER_IS_HARDER


def test_what_is_lower_where_harder_is_an_estimator() -> None:
    assert set(ESTIMATORS) >= LOWER_IS_HARDER
    assert not ESTIMATORS["answer_entropy"].lower_is_harder


def test_every_need_has_an_estimator_and_needs_come_cheapest_first() -> None:
    assert {each.need for each in ESTIMATORS.values()} == set(Need)
    names = ["judge_steps", "rationale_length", "cot_max_entropy", "judge_education"]
    assert needs_of(names) == [Need.chain, Need.rationale, Need.judge]


def test_only_what_looks_at_gold_is_circular_and_says_so_in_its_title() -> None:
    circular = [each for each in ESTIMATORS.values() if each.circular]
    assert [each.name for each in circular] == ["gold_cross_entropy"]
    assert all("circular" in each.title and not each.known_at_test for each in circular)


def test_an_unknown_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"here is answr_entropy; .* did you mean answer_entropy"):
        find_estimator("here", "answr_entropy")

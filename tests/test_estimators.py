import pytest

from caft.errors import UserError
from caft.estimators import ESTIMATORS, Need, difficulty, find_estimator, needs_of


def test_probabilities_and_margins_fall_as_questions_get_harder() -> None:
    falling = {"option_mass", "top1_margin", "top1_probability", "cot_margin", "cot_answer_margin"}
    shares = {"answer_frequency", "pass_rate", "p_true", "verbalized"}
    assert {name for name, each in ESTIMATORS.items() if each.lower_is_harder} == falling | shares


def test_every_need_has_an_estimator_and_needs_come_cheapest_first() -> None:
    assert {each.need for each in ESTIMATORS.values()} == set(Need)
    names = ["judge_steps", "pass_rate", "rationale_length", "cot_max_entropy", "judge_education"]
    assert needs_of(names) == [Need.chain, Need.samples, Need.rationale, Need.judge]


def test_only_what_looks_at_gold_is_circular_and_says_so_in_its_title() -> None:
    circular = [each for each in ESTIMATORS.values() if each.circular]
    assert [each.name for each in circular] == ["gold_cross_entropy", "pass_rate"]
    assert all("circular" in each.title and not each.known_at_test for each in circular)


def test_what_is_fitted_on_labels_says_so_in_its_title() -> None:
    fitted = [each for each in ESTIMATORS.values() if each.needs_labels]
    assert [each.name for each in fitted] == ["probe"]
    assert all("needs labels" in each.title and each.known_at_test for each in fitted)


def test_an_unknown_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"here is answr_entropy; .* did you mean answer_entropy"):
        find_estimator("here", "answr_entropy")


def test_difficulty_rises_whichever_way_an_estimate_points() -> None:
    assert difficulty("p_true", 0.25) == -0.25
    assert difficulty("answer_entropy", 0.25) == 0.25
    assert difficulty("p_true", None) is None
    assert difficulty("random", 0.25) == 0.25

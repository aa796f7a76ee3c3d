import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from caft.statistics import roc_auc

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "mmlu_pro_qwen_test.jsonl"


def draw_tied_scores(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    wrong = generator.random(n) < 0.4
    return np.round(generator.normal(size=n) + wrong, 1), wrong


def compare_every_pair(scores: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    gaps = scores[wrong][:, None] - scores[~wrong][None, :]
    return (gaps > 0) + 0.5 * (gaps == 0)


def test_by_hand_with_a_tie() -> None:
    # Pairs (wrong, right): (3,1) won, (3,2) won, (2,1) won, (2,2) tied: 3.5 of 4.
    area = roc_auc([3.0, 2.0, 2.0, 1.0], [True, True, False, False])
    assert area.value == 3.5 / 4
    assert (area.n, area.positives, area.reason) == (4, 2, "")


@pytest.mark.parametrize("seed", range(4))
def test_value_agrees_with_sklearn_and_the_rank_sum(seed: int) -> None:
    scores, wrong = draw_tied_scores(seed)
    value = roc_auc(list(scores), list(wrong)).value
    assert value == pytest.approx(roc_auc_score(wrong, scores), abs=1e-12)
    rank_sum = mannwhitneyu(scores[wrong], scores[~wrong]).statistic
    assert value == pytest.approx(rank_sum / (wrong.sum() * (~wrong).sum()), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_delong_variance_agrees_with_the_definition_over_all_pairs(seed: int) -> None:
    scores, wrong = draw_tied_scores(seed)
    won = compare_every_pair(scores, wrong)
    variance = won.mean(axis=1).var(ddof=1) / wrong.sum()
    variance += won.mean(axis=0).var(ddof=1) / (~wrong).sum()
    area = roc_auc(list(scores), list(wrong))
    value, low, high = area.value, area.low, area.high
    assert value is not None
    assert low is not None
    assert high is not None
    assert value == pytest.approx(won.mean())
    assert high - value == pytest.approx(1.959964 * variance**0.5, rel=1e-6)
    assert value - low == pytest.approx(1.959964 * variance**0.5, rel=1e-6)


def test_perfect_order_of_few_rows_is_not_certainty() -> None:
    area = roc_auc([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [False, False, False, True, True, True])
    assert (area.value, area.high) == (1.0, 1.0)
    assert area.low is not None
    assert 0.4 < area.low < 0.8
    mirrored = roc_auc([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [False, False, False, True, True, True])
    assert (mirrored.value, mirrored.low) == (0.0, 0.0)
    assert mirrored.high == pytest.approx(1 - area.low)


def test_newcombe_bound_solves_its_equation() -> None:
    low = roc_auc([1.0, 2.0, 3.0], [False, True, True]).low
    assert low is not None
    variance = low * (1 - low) / 2 * (1 + 0.5 * ((1 - low) / (2 - low) + low / (1 + low)))
    assert 1 - low == pytest.approx(1.959964 * variance**0.5, rel=1e-5)


def test_all_scores_equal_is_a_coin_toss_with_a_width() -> None:
    area = roc_auc([1.0] * 20, [True, False] * 10)
    assert area.value == 0.5
    assert area.low is not None
    assert area.high is not None
    assert area.low < 0.4
    assert area.high > 0.6


def test_two_of_each_kind_by_hand() -> None:
    # 2 is above one negative of two, 4 above both: variance 1/8 of either kind, over 2 rows each.
    area = roc_auc([1.0, 3.0, 2.0, 4.0], [False, False, True, True])
    assert area.low == pytest.approx(0.75 - 1.959964 * (0.125 / 2 + 0.125 / 2) ** 0.5)
    assert area.high == 1.0
    assert roc_auc([1.0], [True]).reason.startswith("the one row is wrong, ")


def test_one_positive_still_has_an_interval() -> None:
    area = roc_auc([1.0, 2.0, 3.0, 4.0], [False, False, True, False])
    assert area.value == pytest.approx(2 / 3)
    assert area.low is not None
    assert area.low < 2 / 3


@pytest.mark.parametrize(
    ("scores", "wrong", "reason"),
    [
        ([1.0, 2.0], [True, True], "all 2 rows are wrong, and an AUC needs both kinds"),
        ([1.0, 2.0], [False, False], "none of the 2 rows is wrong, and an AUC needs both kinds"),
        ([None, None], [True, False], "none of the 2 rows has this score"),
        ([], [], "there are no rows"),
    ],
)
def test_no_area_comes_with_its_reason(
    scores: list[float | None], wrong: list[bool], reason: str
) -> None:
    area = roc_auc(scores, wrong)
    assert (area.value, area.low, area.high) == (None, None, None)
    assert area.reason == reason


def test_rows_without_a_score_are_counted_not_guessed() -> None:
    area = roc_auc([1.0, None, 2.0, 3.0], [False, True, True, True])
    assert (area.value, area.n, area.positives) == (1.0, 3, 2)


def test_nan_is_our_fault() -> None:
    with pytest.raises(AssertionError, match="NaN"):
        roc_auc([1.0, float("nan")], [True, False])


def test_published_entropies_of_qwen_on_mmlu_pro() -> None:
    if not SHARED.exists():
        pytest.skip("the published scores are not beside this checkout")
    rows = [json.loads(line) for line in SHARED.read_text(encoding="utf-8").splitlines()]
    scores = [row["published_entropy_nats"] for row in rows]
    area = roc_auc(scores, [not row["published_correct"] for row in rows])
    assert area.n == 1167
    assert area.value == pytest.approx(0.7105, abs=5e-5)
    assert area.low is not None
    assert area.high is not None
    assert 0.67 < area.low < 0.7105 < area.high < 0.75

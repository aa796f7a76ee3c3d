"""Budgets, orders and placements of the matched random arm, worked out by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from caft.records import Question, Rationale
from caft.split.config import EntropySplitConfig, Match, RandomSplitConfig, Within
from caft.split.matched import (
    Price,
    count_needed,
    next_count,
    place_matched,
    price_questions,
    shuffle_questions,
    total,
)


def rationale(
    name: str, text: str, refusal: str = "", tokens: int = 0, attempt: int = 0
) -> Rationale:
    return Rationale(
        question_id=name,
        text=text,
        answer="A",
        agrees=not refusal,
        refusal=refusal,
        completion_tokens=tokens,
        attempt=attempt,
    )


ASKED = [
    rationale("kept at once", "one two", tokens=7),
    rationale("kept at last", "one", refusal="wrong", tokens=3),
    rationale("kept at last", "one two three", tokens=5, attempt=1),
    rationale("refused", "one two three four", refusal="wrong", tokens=9),
    rationale("worked solution", "one two"),
]
READ = {row.text: len(row.text.split()) for row in ASKED}


def test_calls_and_tokens_count_every_attempt() -> None:
    assert price_questions(ASKED, Match.calls, {}) == {
        "kept at once": Price(1, 1),
        "kept at last": Price(2, 1),
        "refused": Price(1, 0),
        "worked solution": Price(1, 1),
    }
    by_tokens = price_questions(ASKED, Match.tokens, READ)
    assert by_tokens == {
        "kept at once": Price(7, 2),
        "kept at last": Price(8, 3),
        "refused": Price(9, 0),
        # Nobody charged for it: what the student reads is what there is to count.
        "worked solution": Price(2, 2),
    }
    assert total(by_tokens.values()) == Price(26, 7)


@pytest.mark.parametrize(
    ("budget", "count"),
    [(0, 0), (5, 1), (7, 1), (7.5, 2), (10, 2), (14, 2), (16, 3), (30, 3), (99, 3)],
)
def test_questions_are_taken_until_the_budget_is_nearest(budget: float, count: int) -> None:
    # Sums from the front: 5, 10, 20.
    assert count_needed([5, 5, 10], budget) == count


def test_asking_never_goes_far_beyond_the_budget() -> None:
    # 60 of 100 are spent at 20 a question: two more.
    assert next_count([10, 20, 30], 100, 50) == 5
    # Less than a question is missing: one more.
    assert next_count([10, 20, 30], 61, 50) == 4
    assert next_count([10, 20, 30], 1000, 7) == 7
    assert next_count([0.0], 5, 7) == 7


def test_an_order_hangs_on_its_seed_alone() -> None:
    questions = [Question(id=str(number), text="?") for number in range(20)]
    orders = [[item.id for item in shuffle_questions(questions, seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == sorted(orders[0])


@pytest.mark.parametrize("taken", [0, 1, 4, 6, 16])
def test_the_rest_is_divided_as_the_entropy_arm_divides_it(taken: int) -> None:
    order = [str(number) for number in range(16)]
    placed = place_matched(order, taken, "hard", {"easy": 4, "middle": 8, "hard": 4})
    assert list(placed) == order
    assert [name for name in order if placed[name] == "hard"] == order[:taken]
    counts = Counter(placed.values())
    assert counts["easy"] == round((16 - taken) / 3)


def test_strategies_are_told_apart_in_summaries() -> None:
    names = [RandomSplitConfig(match=match).strategy for match in Match]
    assert names == ["random", "random_calls", "random_tokens"]
    within = EntropySplitConfig(within=Within.subject)
    assert (EntropySplitConfig().strategy, within.strategy) == ("entropy", "entropy_within_subject")


def test_the_rest_of_a_reference_that_has_only_hard_questions() -> None:
    placed = place_matched(["x", "y"], 1, "hard", {"easy": 0, "middle": 0, "hard": 2})
    assert placed == {"x": "hard", "y": "easy"}

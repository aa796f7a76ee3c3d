"""Every answer is worked out again from the question's words; nothing of the generator is used."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import product

import pytest

from caft.data import QuestionSplits, load_questions
from caft.data.arithmetic import (
    ANSWERS,
    Bounds,
    below,
    chain_number,
    count_chains,
    draw_distinct,
    share,
    spread_shots,
    write_question,
)
from caft.data.config import ArithmeticConfig
from caft.errors import UserError
from caft.records import Question
from caft.text.config import PromptConfig

WIDE = {"lowest": 1, "highest": 20, "largest_operand": 20}
GOLDEN = {
    "test": ["8 + 11 - 13", "10 - 1", "11 - 1 + 5 - 9"],
    "train": ["18 - 9", "1 + 11 - 5", "19 - 14 + 12 - 10"],
    "shots": ["9 - 4 + 5 - 4", "17 - 14"],
}
GOLDEN_FINGERPRINT = "9c212ce748f0819629780898f122051c42415e1ba72094badb0f747b425053e8"
SPLITS = ("train", "validation", "test", "shots")


def make(
    train: int = 60, validation: int = 10, test: int = 20, shots: int = 4, **dials: int
) -> QuestionSplits:
    return load_questions(
        ArithmeticConfig(
            name="arithmetic",
            train=train,
            validation=validation,
            test=test,
            prompt=PromptConfig(shots=shots),
            **{**WIDE, **dials},
        )
    )


def all_questions(splits: QuestionSplits) -> list[Question]:
    return [question for split in SPLITS for question in getattr(splits, split)]


def work_out(text: str) -> tuple[list[int], list[int]]:
    """Operands and running values, read off the words alone."""
    pieces = text.split(" ")
    operands = [int(piece) for piece in pieces[0::2]]
    values = [operands[0]]
    for sign, operand in zip(pieces[1::2], operands[1:], strict=True):
        assert sign in "+-"
        values.append(values[-1] + operand if sign == "+" else values[-1] - operand)
    return operands, values


def steps_of(question: Question) -> int:
    return len(question.text.split(" ")) // 2


@pytest.mark.parametrize("seed", [0, 1, 17])
@pytest.mark.parametrize(
    ("lowest", "highest", "largest_operand", "most_steps"),
    [(1, 20, 20, 5), (1, 9, 9, 3), (0, 12, 12, 4), (0, 30, 9, 5), (1, 99, 99, 9)],
)
def test_every_question_is_right_and_in_bounds(
    seed: int, lowest: int, highest: int, largest_operand: int, most_steps: int
) -> None:
    splits = make(
        seed=seed,
        lowest=lowest,
        highest=highest,
        largest_operand=largest_operand,
        most_steps=most_steps,
    )
    questions = all_questions(splits)
    assert len(questions) == 94
    for question in questions:
        operands, values = work_out(question.text)
        assert question.gold_index is not None
        assert question.answer_set == tuple("123456789")
        assert question.answer_set[question.gold_index] == str(values[-1])
        assert all(lowest <= value <= highest for value in values)
        assert all(lowest <= operand <= largest_operand for operand in operands[1:])
        assert question.options == ()


def test_rationale_shows_every_step_and_carries_no_marker() -> None:
    for question in all_questions(make()):
        assert question.rationale is not None
        _, values = work_out(question.text)
        sentences = re.findall(r"(\d+) ([+-]) (\d+) = (\d+)\.", question.rationale)
        assert [int(sentence[0]) for sentence in sentences] == values[:-1]
        assert [int(sentence[3]) for sentence in sentences] == values[1:]
        rest = [f"{sign} {operand}" for _, sign, operand, _ in sentences]
        assert " ".join([str(values[0]), *rest]) == question.text
        assert "[[" not in question.rationale


def test_words_of_one_question() -> None:
    # 7 + 2 - 4, worked by hand
    moves, answer = next(
        (moves, answer)
        for number in range(count_chains(2, Bounds(1, 20, 20)))
        for moves, answer in [chain_number(number, 2, Bounds(1, 20, 20))]
        if [(move.before, move.sign, move.operand) for move in moves] == [(7, "+", 2), (9, "-", 4)]
    )
    question = write_question(moves, answer)
    assert question.text == "7 + 2 - 4"
    assert question.id == "7+2-4"
    assert question.subject == "2 steps"
    assert question.rationale == "7 + 2 = 9. 9 - 4 = 5."
    assert question.gold_index == 4


def test_no_question_occurs_twice() -> None:
    questions = all_questions(make(train=700, validation=100, test=200, shots=8))
    assert len({question.text for question in questions}) == len(questions) == 1008
    assert len({question.id for question in questions}) == len(questions)


@pytest.mark.parametrize("bounds", [Bounds(1, 9, 9), Bounds(0, 9, 9), Bounds(1, 12, 4)])
def test_counts_agree_with_plain_enumeration(bounds: Bounds) -> None:
    values = range(bounds.lowest, bounds.highest + 1)
    operands = range(bounds.lowest, bounds.largest_operand + 1)
    steps = list(product("+-", operands))
    texts = set()
    for first, *rest in product(values, steps, steps):
        text = f"{first}" + "".join(f" {sign} {operand}" for sign, operand in rest)
        _, reached = work_out(text)
        if all(value in values for value in reached) and reached[-1] in ANSWERS:
            texts.add(text)
    numbered = {
        write_question(*chain_number(number, 2, bounds)).text
        for number in range(count_chains(2, bounds))
    }
    assert numbered == texts


def test_seventy_two_one_step_questions_within_nine() -> None:
    assert count_chains(1, Bounds(1, 9, 9)) == 72  # 36 sums and 36 differences
    assert count_chains(1, Bounds(1, 20, 20)) == 171  # 36 sums and 9 x 15 differences


def test_rows_are_even_over_steps_while_there_are_enough() -> None:
    splits = make(train=500, validation=50, test=100, shots=10)
    for split, each in (("train", 100), ("validation", 10), ("test", 20), ("shots", 2)):
        counts = Counter(map(steps_of, getattr(splits, split)))
        assert counts == dict.fromkeys(range(1, 6), each)


def test_scarce_short_questions_are_shared_in_proportion() -> None:
    splits = make(train=900, validation=150, test=300, shots=8)
    one_step = {split: Counter(map(steps_of, getattr(splits, split)))[1] for split in SPLITS}
    assert sum(one_step.values()) == 171  # every one there is
    for split in ("train", "validation", "test"):
        assert one_step[split] / len(getattr(splits, split)) == pytest.approx(169 / 1350, abs=0.01)
    rest = Counter(map(steps_of, splits.train))
    assert max(rest[steps] for steps in range(2, 6)) - min(rest[steps] for steps in range(2, 6)) < 2


def test_share_by_hand() -> None:
    assert share(10, [100, 100, 100], waiting=30) == [4, 3, 3]
    assert share(10, [3, 100, 100], waiting=10) == [3, 4, 3]
    # half of the waiting rows may take half of the 3 scarce questions, rounded up
    assert share(10, [3, 100, 100], waiting=20) == [2, 4, 4]
    assert share(6, [1, 2, 3], waiting=6) == [1, 2, 3]


def test_shots_cover_steps_evenly() -> None:
    assert spread_shots(8, 5) == [2, 1, 2, 1, 2]
    assert spread_shots(4, 5) == [1, 1, 0, 1, 1]
    assert spread_shots(1, 5) == [0, 0, 1, 0, 0]
    assert spread_shots(5, 5) == [1, 1, 1, 1, 1]
    assert spread_shots(0, 5) == [0, 0, 0, 0, 0]


def test_questions_of_a_seed_are_pinned() -> None:
    splits = make(train=3, validation=2, test=3, shots=2, most_steps=3)
    assert [question.text for question in splits.test] == GOLDEN["test"]
    assert [question.text for question in splits.train] == GOLDEN["train"]
    assert [question.text for question in splits.shots] == GOLDEN["shots"]
    assert splits.fingerprint == GOLDEN_FINGERPRINT


def test_same_seed_same_questions_other_seed_others() -> None:
    assert make(seed=5) == make(seed=5)
    assert make(seed=5).fingerprint == make(seed=5).fingerprint
    assert make(seed=5).fingerprint != make(seed=6).fingerprint


def test_test_rows_do_not_depend_on_how_many_are_trained() -> None:
    assert set(make(train=60).test) == set(make(train=300).test)


def test_a_shuffle_holds_every_number_once() -> None:
    assert sorted(draw_distinct(random.Random(3), 200)) == list(range(200))


def test_below_reaches_everything_and_nothing_more() -> None:
    chance = random.Random(0)
    assert Counter(below(chance, 3) for _ in range(3000)).keys() == {0, 1, 2}
    huge = 9 * 98**9
    draws = [below(chance, huge) for _ in range(200)]
    assert max(draws) < huge
    assert len({draw % 1024 for draw in draws}) > 150  # the low bits are random too


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"ask for 94 chains; only 72 distinct ones"):
        make(most_steps=1, highest=9, largest_operand=9)


def test_every_question_there_is_can_be_had() -> None:
    splits = make(42, 10, 20, 0, most_steps=1, highest=9, largest_operand=9)
    assert len({question.text for question in all_questions(splits)}) == 72


def test_more_shots_than_short_questions_is_refused() -> None:
    line = r"prompt\.shots is 200, 40 of them of 1 step; only 16 such chains stay within 1 to 9 "
    with pytest.raises(UserError, match=line):
        make(shots=200, most_steps=5, highest=9, largest_operand=1)


@pytest.mark.parametrize(
    ("dials", "named"),
    [
        ({"most_steps": 0}, "dataset.most_steps is 0"),
        ({"highest": 100}, "dataset.highest is 100; give 9 to 99"),
        ({"train": None}, "give three numbers"),
        ({"train": 0}, "dataset.train is 0"),
    ],
)
def test_dials_out_of_range_are_refused(dials: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ArithmeticConfig(name="arithmetic", **dials)  # type: ignore[arg-type]

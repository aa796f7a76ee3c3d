"""Kinds are told apart by their words alone, and every answer is worked out again from them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from statistics import fmean

import pytest

from caft.data import QuestionSplits, load_questions
from caft.data.config import ArithmeticConfig, MixedConfig
from caft.data.mixed import spread_lengths, write_lookup
from caft.errors import UserError
from caft.records import Question
from caft.text.config import PromptConfig

GOLDEN = ["7 old pigs", "4 - 0", "3 cheap bells", "11 - 2 - 2"]
SPLITS = ("train", "validation", "test", "shots")


def make(
    train: int = 120, validation: int = 10, test: int = 40, shots: int = 8, **dials: float
) -> QuestionSplits:
    sizes = {"train": train, "validation": validation, "test": test}
    return load_questions(
        MixedConfig(name="mixed", prompt=PromptConfig(shots=shots), **sizes, **dials)  # type: ignore[arg-type]
    )


def all_questions(splits: QuestionSplits) -> list[Question]:
    return [question for split in SPLITS for question in getattr(splits, split)]


def is_lookup(question: Question) -> bool:
    return re.fullmatch(r"[1-9] [a-z]+ [a-z]+", question.text) is not None


def count_tokens(text: str) -> int:
    """As SmolLM2 cuts this text: digits one by one, with the space before them on its own."""
    return len(re.findall(r" ?[A-Za-z]+|\d| (?=\d)| ?[^\w\s]", text))


def mean_tokens(questions: list[Question]) -> float:
    return fmean(count_tokens(question.rationale or "") for question in questions)


@pytest.mark.parametrize("seed", [0, 7])
def test_every_answer_is_right_and_each_kind_has_its_subject(seed: int) -> None:
    for question in all_questions(make(seed=seed)):
        if is_lookup(question):
            answer, subject = question.text[0], "lookup"
        else:
            assert re.fullmatch(r"\d+( [+-] \d)+", question.text)
            steps = len(question.text.split()) // 2
            # The text holds numbers and signs only.
            answer, subject = str(eval(question.text)), f"{steps} step{'s' * (steps > 1)}"
        assert question.gold_index is not None
        assert question.answer_set[question.gold_index] == question.gold_text == answer
        assert question.subject == subject
        assert question.rationale
        assert "[[" not in question.rationale


@pytest.mark.parametrize("lookup_share", [0.5, 0.2, 0.75])
def test_every_split_has_its_share_of_lookups(lookup_share: float) -> None:
    splits = make(lookup_share=lookup_share)
    for split in SPLITS:
        questions = getattr(splits, split)
        lookups = sum(map(is_lookup, questions))
        assert lookups == pytest.approx(lookup_share * len(questions), abs=0.5)
    assert len(splits.train) == 120


def test_chains_are_even_over_steps() -> None:
    counts = Counter(question.subject for question in make().train)
    assert counts.pop("lookup") == 60
    assert sorted(counts.values()) == [12] * 5


@pytest.mark.parametrize("lookup_share", [0.5, 0.3])
def test_solutions_of_both_kinds_are_equally_long(lookup_share: float) -> None:
    train = make(train=1500, lookup_share=lookup_share).train
    lookups = [question for question in train if is_lookup(question)]
    chains = [question for question in train if not is_lookup(question)]
    assert mean_tokens(lookups) == pytest.approx(mean_tokens(chains), rel=0.03)
    # Not the mean alone: the shortest and the longest fifth as well.
    for steps in range(1, 6):
        of_steps = [chain for chain in chains if chain.text.count(" ") == 2 * steps]
        as_long = [item for item in lookups if (item.rationale or "").count(".") == steps]
        assert len(as_long) / len(lookups) == pytest.approx(len(of_steps) / len(chains), abs=0.01)
        assert mean_tokens(as_long) == pytest.approx(mean_tokens(of_steps), rel=0.06)


def test_words_of_one_lookup() -> None:
    lookup = write_lookup(6, 3)
    assert (lookup.text, lookup.id) == ("7 red apples", "7-red-apples")
    assert lookup.rationale == (
        "There are 7 red apples here. The question is about red apples and nothing else. "
        "The number of the red apples is 7."
    )


def test_nine_thousand_lookups_are_distinct() -> None:
    assert len({write_lookup(number, 1).text for number in range(9000)}) == 9000


def test_no_question_is_in_two_splits() -> None:
    questions = all_questions(make(train=4000, validation=300, test=1000))
    assert len({question.id for question in questions}) == len(questions) == 5308
    assert len({question.text for question in questions}) == len(questions)


def test_test_rows_do_not_depend_on_how_many_are_trained() -> None:
    assert make(train=60).test == make(train=300).test
    assert make().shots == make(train=300).shots


def test_the_seed_decides_alone() -> None:
    assert make(seed=3).fingerprint == make(seed=3).fingerprint
    assert not {item.id for item in make(seed=3).test} <= {item.id for item in make(seed=4).test}
    pinned = make(train=3, validation=1, test=4, shots=2)
    assert [question.text for question in pinned.test] == GOLDEN


def test_kinds_alternate_by_chance_only() -> None:
    # Solved examples and batches that hold one kind after the other would teach the order.
    kinds = [is_lookup(question) for question in make(train=400).train]
    changes = sum(one != two for one, two in pairwise(kinds))
    assert 160 < changes < 240  # a fair coin changes 199.5 times, and 20 is two deviations


def test_lengths_are_spread_by_hand() -> None:
    assert spread_lengths([3, 1, 2], 3) == [1, 2, 3]
    assert spread_lengths([1, 2, 3, 4], 2) == [2, 4]
    assert spread_lengths([1, 5], 4) == [1, 1, 5, 5]
    assert spread_lengths([], 2) == [1, 1]
    assert spread_lengths([2], 0) == []


def test_one_row_a_split_is_enough() -> None:
    assert len(all_questions(make(1, 1, 1, 0))) == 3


@pytest.mark.parametrize(
    ("dials", "named"),
    [
        ({"lookup_share": 0.0}, "dataset.lookup_share is 0.0; give more than 0, below 1"),
        ({"lookup_share": 1.0}, "dataset.lookup_share is 1.0"),
        ({"train": 18_000}, r"makes 9,029 lookups; there are 9,000: ask for a smaller share"),
        ({"train": 900, "most_steps": 1}, r"ask for 479 chains; only 144 distinct ones"),
    ],
)
def test_what_cannot_be_made_is_refused(dials: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        make(**dials)  # type: ignore[arg-type]


def test_chains_are_those_of_arithmetic() -> None:
    sizes = {"train": 60, "validation": 5, "test": 20}
    plain = load_questions(
        ArithmeticConfig(name="arithmetic", prompt=PromptConfig(shots=4), **sizes)  # type: ignore[arg-type]
    )
    mixed = make()
    chains = {item.id for item in all_questions(mixed) if not is_lookup(item)}
    assert chains == {item.id for item in all_questions(plain)}


def test_too_many_shots_are_named_as_they_were_given() -> None:
    line = r"prompt\.shots is 400, 40 of them of 1 step; only 35 such chains stay within 0 to 9 "
    with pytest.raises(UserError, match=line):
        make(shots=400, most_steps=5, highest=9, largest_operand=1)

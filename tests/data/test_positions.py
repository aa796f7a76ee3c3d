"""Gold answers that favour one place, and the shuffling of options."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caft.data import QuestionSplits, load_questions
from caft.data.checks import check_questions
from caft.data.config import ColumnsConfig, LocalConfig
from caft.data.positions import find_uneven_place, names_letters, shuffle_options
from caft.errors import UserError
from caft.records import Question


def ask(number: int, size: int, gold: int, **more: Any) -> Question:
    options = tuple(f"{number} {letter}" for letter in "abcdefghij"[:size])
    fields = {"text": "Which?", "options": options, "gold_index": gold, **more}
    return Question(id=f"q{number}", **fields)


def ask_all(golds: list[int], size: int = 4) -> list[Question]:
    return [ask(number, size, gold) for number, gold in enumerate(golds)]


def test_the_p_value_is_that_of_the_binomial_distribution() -> None:
    # All 10 at the first of 2: 2^-10 at this end, both ends, two places: 4 * 2^-10 = 0.0039.
    found = find_uneven_place(ask_all([0] * 10, size=2))
    assert found is not None
    assert found.p == pytest.approx(4 / 2**10)
    assert (found.place, found.gold, found.questions, found.expected) == (0, 10, 10, 5)
    assert found.everywhere
    # 12 of 16 at the third of 4: 8 * P(X >= 12) for Binomial(16, 1/4), summed by hand.
    from math import comb

    tail = sum(comb(16, k) * 0.25**k * 0.75 ** (16 - k) for k in range(12, 17))
    found = find_uneven_place(ask_all([2] * 12 + [0, 1, 3, 0]))
    assert found is not None
    assert (found.place, found.p) == (2, pytest.approx(8 * tail))


def test_questions_with_other_numbers_of_options_are_added_exactly() -> None:
    # Two with 2 options and two with 3, all gold first: (1/2)^2 (1/3)^2, twice, three places.
    found = find_uneven_place([ask(n, size, 0) for n, size in enumerate((2, 2, 3, 3))])
    assert found is not None
    assert found.p == pytest.approx(6 / 36)
    assert found.expected == pytest.approx(2 / 2 + 2 / 3)


@pytest.mark.timeout(30)
def test_hundreds_of_thousands_of_questions_are_counted_in_no_time() -> None:
    sizes = (2, 3, 4, 5)
    many = [ask(n % 50, sizes[n % 4], n // 4 % sizes[n % 4]) for n in range(240_000)]
    assert find_uneven_place(many) is None
    found = find_uneven_place([ask(n, 4, 0) for n in range(50)] * 4000)
    assert found is not None
    assert (found.p, found.everywhere) == (0, True)


def test_even_golds_are_not_reported_and_an_empty_place_is() -> None:
    assert find_uneven_place(ask_all([0, 1, 2, 3] * 30)) is None
    assert find_uneven_place([ask(n, 3 + n % 8, n % 3) for n in range(12)]) is None
    found = find_uneven_place(ask_all([1, 2, 3] * 40))
    assert found is not None
    assert (found.place, found.gold) == (0, 0)
    free = [Question(id=str(n), text="x", gold_text="1") for n in range(50)]
    closed = [Question(id=str(n), text="x", answer_set=("a", "b"), gold_index=0) for n in range(50)]
    assert find_uneven_place([*free, *closed]) is None


def test_an_order_depends_on_id_and_seed_alone_and_the_gold_follows() -> None:
    questions = ask_all([0] * 400)
    shuffled = shuffle_options(questions, 0)
    assert shuffle_options(questions[::-1], 0) == shuffled[::-1]
    assert shuffle_options(questions, 1) != shuffled
    for before, after in zip(questions, shuffled, strict=True):
        assert sorted(after.options) == sorted(before.options)
        assert after.gold_index is not None
        assert after.options[after.gold_index] == before.options[0]
    assert find_uneven_place(shuffled) is None
    assert {question.gold_index for question in shuffled} == {0, 1, 2, 3}


def test_options_that_point_to_others_stay_where_they_are() -> None:
    above = [ask(n, 4, 3, options=("red", "green", "blue", "All of the above")) for n in range(20)]
    assert all(q.options[3] == "All of the above" for q in shuffle_options(above, 0))
    assert len({q.options for q in shuffle_options(above, 0)}) > 1
    letters = ask(1, 4, 3, options=("red", "green", "blue", "Both A and B"))
    solved = ask(2, 4, 3, rationale="Since it is red, the answer is (B).")
    assert shuffle_options([letters, solved], 0) == (letters, solved)


@pytest.mark.parametrize(
    ("solution", "named"),
    [
        ("The sky is blue, so [[C]]", True),
        ("The sky is blue, so [[ **c**. blue ]]", True),
        ("The sky is blue, so [[\\text{C}]]", True),
        ("The sky is blue, so [[3]]", True),
        ("It is blue.\nThe answer: C", True),
        ("It is blue. Answer: C.", True),
        ("It is blue. answer: c", True),
        ("So it is \\boxed{C}", True),
        ("So it is $\\boxed{\\text{(C)}}$.", True),
        ("**C** is correct, since the sky is blue.", True),
        ("The answer is **C**, since the sky is blue.", True),
        ("The answer must therefore be C, as blue is.", True),
        ("C is the only right answer here.", True),
        ("A. is red.\nC. is blue, and so it is.", True),
        ("We rule out B, and blue is left.", True),
        ("Red and green are wrong: choose C, it is blue.", True),
        ("Option 3 has blue.", True),
        ("The third option has blue.", True),
        ("It is blue, so it is C.", True),
        ("The answer to the question is C.", True),
        ("It is blue.\nC", True),
        ("It is blue.\n\n  **(C).**\n", True),
        ("It is blue.\nSolution: (C).", True),
        ("It is blue.\nx = C", True),
        ("So the triangle has area A.", False),
        ("The sky is blue, and so am I.", False),
        ("In set A) hmm", False),
        ("By Ohm (for a current I, a load B) it is blue.", False),
        ("As A. Smith wrote in 1990, it is blue.", False),
        ("The answer is a colour: blue.", False),
        ("The answer is blue, as a sky in May is.", False),
        ("A sky is blue. I see it.", False),
        ("With x = [1, 2] and 3 \\cdot 4 = 12 we choose blue.", False),
        ("Only blue is right, the best choice there is.", False),
    ],
)
def test_solutions_that_name_an_option_by_letter_keep_their_order(
    solution: str, named: bool
) -> None:
    assert names_letters(ask(1, 4, 2, rationale=solution)) is named


def test_letters_go_as_far_as_the_options() -> None:
    options = tuple(f"o{number}" for number in range(14))
    solved = Question(id="q", text="?", options=options, gold_index=12, rationale="It is (M), so.")
    assert names_letters(solved)
    assert not names_letters(replace(solved, options=options[:4]))


def test_options_that_end_in_a_letter_are_shuffled() -> None:
    vitamins = [ask(n, 4, 3, options=tuple(f"Vitamin {v}" for v in "ABCD")) for n in range(20)]
    assert len({question.options for question in shuffle_options(vitamins, 0)}) > 1


def write(folder: Path, golds: list[int], name: str = "q.jsonl") -> str:
    rows = [
        {
            "question": f"{name} {n}?",
            "right": f"r{n}",
            "w1": f"x{n}",
            "w2": f"y{n}",
            "letter": "ABC"[g],
        }
        for n, g in enumerate(golds)
    ]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(path: str, answer: str = "right", **dials: Any) -> QuestionSplits:
    columns = ColumnsConfig(options=["right", "w1", "w2"], answer=answer)
    return load_questions(LocalConfig(name="local", train_path=path, columns=columns, **dials))


def test_gold_that_is_always_first_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    path = write(tmp_path, [0] * 60)
    with pytest.raises(UserError, match="of all 60 questions is option 1") as error:
        load(path)
    assert "dataset.shuffle_options=true" in str(error.value)
    shuffled = load(path, shuffle_options=True)
    assert {question.gold_index for question in shuffled.train} == {0, 1, 2}
    assert load(path, shuffle_options=True).fingerprint == shuffled.fingerprint
    assert load(path, shuffle_options=True, seed=1).fingerprint != shuffled.fingerprint
    assert len(load(write(tmp_path, [0] * 5)).train) == 3


def test_a_shuffle_changes_the_fingerprint_and_no_id(tmp_path: Path) -> None:
    path = write(tmp_path, [0, 1, 2] * 10)
    plain, shuffled = load(path, "letter"), load(path, "letter", shuffle_options=True)
    assert plain.fingerprint != shuffled.fingerprint
    assert [q.id for q in plain.train] == [q.id for q in shuffled.train]


def test_an_uneven_place_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(write(tmp_path, [0] * 50 + [1, 2]), "letter")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "the right answer is option 1 in 50 of 52 questions, where chance gives 17" in line
    assert "dataset.shuffle_options=true" in line


def test_a_test_file_is_checked_too(tmp_path: Path) -> None:
    train = write(tmp_path, [0, 1, 2] * 10)
    test = write(tmp_path, [0] * 20, "t.jsonl")
    with pytest.raises(UserError, match="of all 20 test questions is option 1"):
        load(train, "letter", test_path=test)


def test_one_answer_to_all_questions_without_options_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"question": f"Is it {n}?", "answer": "yes"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = ColumnsConfig(options=None)
    for answer_set in ([], ["yes", "no"]):
        caplog.clear()
        load_questions(
            LocalConfig(
                name="local",
                train_path=str(path),
                columns=columns,
                answer_set=answer_set,
                shuffle_options=True,
            )
        )
        assert "the right answer of all 20 questions is 'yes'" in caplog.text
        assert "dataset.shuffle_options=true changes nothing" in caplog.text


def test_published_rows_with_two_equal_answers_are_reported_and_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    doubled = ask(1, 4, 0, options=("x", " x", "y", "z"))
    rest = tuple(ask_all([0, 1, 2, 3]))
    splits = QuestionSplits(train=(doubled, *rest), validation=rest, test=rest)
    with caplog.at_level(logging.WARNING):
        assert check_questions(splits, LocalConfig(name="local")) == splits
    assert "1 question with the answer among the options twice (q1)" in caplog.text

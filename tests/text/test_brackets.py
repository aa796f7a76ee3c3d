"""Brackets, signs and spaces of free answers: what counts, and what only looks alike."""

from __future__ import annotations

import pytest

from caft.grading.mathematics import same_mathematics
from caft.text.parsing import answers_agree, last_marker, parse_answer
from caft.text.prompts import bracketed

GOLDS = [
    "[1,2]", "(1,2)", "(1,2]", "[1,2)", r"[0, \infty)", r"(-\infty, 3]", r"\left[0,1\right)",
    r"\left(0, 1\right]", "[1, 2, 3]", "[[1,2],[3,4]]", "{1, 2}", r"\{1, 2\}", "['a', 'b']",
    "(a, b]", "f(x, y)", "x[0]", "(1,2) or (3,4)", r"(-\infty, f(2)]", "[5,120]", "(5,120)",
]  # fmt: skip

# A reply, the gold answer, and whether our rules and math-verify call it right.
REPLIES = [
    ("[[(1,2)]]", "[1,2]", False, False),
    ("[[[1,2]]]", "(1,2)", False, False),
    ("[[ [1,2] ]]", "(1,2)", False, False),
    ("[[[1,2]]]", "[1,2)", False, False),
    ("[[(1,2]]]", "(1,2)", False, False),
    ("[[(1,2]]]", "1,2", False, False),
    ("[[(1,2)]]", "(2,1)", False, False),
    ("[[$(1,2)$]]", "[1,2]", False, False),
    (r"[[\left(1,2\right]]]", r"\left[1,2\right]", False, False),
    ("[[{1,2}]]", "[1,2]", False, False),
    ("[[(3, 4)]]", "(3,4)", True, True),
    ("[[[0,1]]]", "[0, 1]", True, True),
    # A third pair of brackets is a habit, where the gold answer has none.
    ("[[[3,000]]]", "3000", True, True),
    ("[[($3,000)]]", "3000", True, True),
    ("[[[Paris, France]]]", "Paris, France", True, True),
    ("[[[1, 2]]]", "1, 2", True, True),
    ("[[[5,120]]]", "(5,120)", False, False),
    ("[[5120]]", "(5,120)", False, False),
    ("[[[3,000]]]", "300", False, False),
    ("[[{B}]]", "B", True, True),
    # LaTeX's braces, and brackets around a number, are none of the gold answer's own.
    ("[[[3,000]]]", "3{,}000", True, True),
    ("[[[3,000]]]", r"\(3,000\)", True, True),
    ("[[[3,000]]]", "[3000]", True, True),
    ("[[(3,000)]]", r"\boxed{3000}", True, True),
    ("[[(1,234)]]", r"1234\text{ m}", True, True),
    ("[[[3,000].]]", "3000", True, True),
    ("[[[3,000]]]", r"\boxed{300}", False, False),
    # A marker may have taken the brackets of the answer.
    ("[[3,4]]", "[3,4]", True, True),
    ("[['a', 'b']]", "['a', 'b']", True, True),
    ("[[3, 4]]", "(3, 4)", True, True),
    ("[[1, 2]]", "{1, 2}", True, True),
    ("[[4,3]]", "[3,4]", False, False),
]  # fmt: skip

AGREE = [
    # spaces beside a sign
    ("(3, 4)", "(3,4)", True),
    ("3x + 1", "3x+1", True),
    ("1, 2", "1,2", True),
    ("a = b", "a=b", True),
    ("3x - 1", "3x+1", False),
    ("x 1", "x1", False),
    ("New York", "NewYork", False),
    ("1 1/2", "11/2", False),
    ("1, 234", "1,234", False),
    ("1, 234", "1234", False),
    ("1 , 000", "1,000", False),
    ("3 . 5", "3.5", False),
    # pi and a set, in LaTeX and without
    ("2\u03c0", r"2\pi", True),
    (r"2 \pi", "2\u03c0", True),
    (r"\pi", "\u03c0", True),
    (r"\{1, 2\}", "{1,2}", True),
    (r"2\pi", "2", False),
    (r"2\pi", "3\u03c0", False),
    (r"2\pi", "2p", False),
    ("pi", r"\pi", True),
    ("Pi", "\u03c0", True),
    ("2pi", r"2\pi", True),
    ("2 pi r", r"2\pi r", True),
    ("2\u03c0r", "2 pi r", True),
    ("(0, pi)", r"(0, \pi)", True),
    ("5pi/6", r"5\pi/6", True),
    ("5\u03c0\u00b2", r"5\pi^2", True),
    ("5 pi^2", r"5\pi", False),
    (r"12\pi \text{ cm}^2", r"12\pi", True),
    ("12 pi cm", "12 \u03c0 m", False),
    (r"25% of \pi", "25%", False),
    (r"\Pi", r"\pi", False),
    ("pie", r"\pi", False),
    ("Raspberry Pi", "raspberry pi", True),
    ("2\u03c0r", "2pi", False),
    # an escaped dollar inside of mathematics
    (r"$\$18$", "18", True),
    (r"$$\$18$$", "18", True),
    (r"$\$1,800.50$", "1800.5", True),
    (r"$\$18$", "19", False),
    (r"$\$5$ and $\$6$", "5", False),
    (r"$5 and \$6$", "6", False),
]


@pytest.mark.parametrize("gold", GOLDS)
def test_the_gold_answer_in_its_marker_is_right(gold: str) -> None:
    for reply in (bracketed(gold), f"So (see [1]) it is {bracketed(gold)}."):
        answer = parse_answer(reply, ())
        assert answer is not None
        assert answers_agree(answer, gold)
        assert same_mathematics(answer, gold)
        marker = last_marker(reply)
        assert marker is not None
        assert reply[marker.start : marker.end] == bracketed(gold)


@pytest.mark.parametrize(("reply", "gold", "rules", "library"), REPLIES)
def test_a_reply_is_right_with_the_brackets_of_the_gold_answer(
    reply: str, gold: str, rules: bool, library: bool
) -> None:
    answer = parse_answer(reply, ())
    assert answer is not None
    assert answers_agree(answer, gold) is rules
    assert same_mathematics(answer, gold) is library


@pytest.mark.parametrize(("answer", "gold", "agrees"), AGREE)
def test_spaces_and_signs(answer: str, gold: str, agrees: bool) -> None:
    assert answers_agree(answer, gold) is agrees
    assert answers_agree(gold, answer) is agrees


def test_a_bracket_of_the_answer_is_none_of_a_chosen_one() -> None:
    for reply in ("[[[B. Paris, France]]]", "[[(B. Paris, France)]]", "[[(B) Paris, France]]"):
        assert parse_answer(reply, ("A", "B")) == "B"
    assert parse_answer("[[[A, B]]]", ("A", "B")) is None


@pytest.mark.parametrize("piece", [",[[", "[[[1,2]]]", r"\left[", r"\$", "[[(,]]]", " , ", r"\pi "])
@pytest.mark.timeout(20)
def test_a_hostile_megabyte_is_read_in_linear_time(piece: str) -> None:
    reply = piece * (1_000_000 // len(piece))
    parse_answer(reply, ())
    parse_answer(f"[[{reply}]]", ())
    for text in (reply, f"${reply}$", f"({reply})"):
        answers_agree(text, "18")
        answers_agree("18", text)

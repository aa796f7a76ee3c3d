"""What counts as an answer: cases from replies of real models."""

from fractions import Fraction
from string import ascii_uppercase

import pytest

from caft.text.parsing import (
    answers_agree,
    first_line,
    last_marker,
    parse_answer,
    unwrap_math,
)
from caft.text.quantities import Quantity, plain_signs, read_quantity, strip_ends

LETTERS = ("A", "B", "C", "D")
TEN = tuple("ABCDEFGHIJ")
DIGITS = tuple("123456789")
WORDS = ("yes", "no", "maybe")

CLOSED = [
    # the plain marker
    ("[[B]]", LETTERS, "B"),
    ("So the second option is right. [[B]]", LETTERS, "B"),
    ("[[B]] is the answer.", LETTERS, "B"),
    ("[[7]]", DIGITS, "7"),
    ("[[maybe]]", WORDS, "maybe"),
    ("Step 1.\n\nStep 2.\n\n[[\nC\n]]", LETTERS, "C"),
    # the last marker decides
    ("[[A]] at first sight, but then [[C]]", LETTERS, "C"),
    ("[[A]] [[B]] [[C]] [[D]]", LETTERS, "D"),
    ("[[A]] and finally [[Z]]", LETTERS, None),
    ("[[A]] and finally [[]]", LETTERS, None),
    ("[[A]] and finally [[ ]]", LETTERS, None),
    ("[[A]], or rather [[B", LETTERS, "A"),
    ("I end with [[id]] as asked", LETTERS, None),
    # no marker
    ("", LETTERS, None),
    ("The answer is B.", LETTERS, None),
    ("**B**", LETTERS, None),
    ("[B]", LETTERS, None),
    ("[ [B] ]", LETTERS, None),
    ("[[B] ]", LETTERS, None),
    ("]]B[[", LETTERS, None),
    ("\\boxed{B}", LETTERS, None),
    ("$\\boxed{7}$", DIGITS, None),
    # wrapping inside and outside
    ("[[ B ]]", LETTERS, "B"),
    ("[[\tB\u00a0]]", LETTERS, "B"),
    ("[[b]]", LETTERS, "B"),
    ("[[YES]]", WORDS, "yes"),
    ("[[**B**]]", LETTERS, "B"),
    ("**[[B]]**", LETTERS, "B"),
    ("[[*B*]]", LETTERS, "B"),
    ("[[`B`]]", LETTERS, "B"),
    ('[["B"]]', LETTERS, "B"),
    ("[['B']]", LETTERS, "B"),
    ("[[(B)]]", LETTERS, "B"),
    ("[[B)]]", LETTERS, "B"),
    ("[[B.]]", LETTERS, "B"),
    ("[[B:]]", LETTERS, "B"),
    ("[[[B]]]", LETTERS, "B"),
    ("[[[[B]]]]", LETTERS, "B"),
    ("[[ [B] ]]", LETTERS, "B"),
    ("\\boxed{[[B]]}", LETTERS, "B"),
    ("[[\\boxed{B}]]", LETTERS, "B"),
    ("[[$\\boxed{\\text{B}}$]]", LETTERS, "B"),
    ("[[\\mathrm{B}]]", LETTERS, "B"),
    ("\\[ [[C]] \\]", LETTERS, "C"),
    # an option's text after its id
    ("[[B. Paris]]", LETTERS, "B"),
    ("[[B) Paris]]", LETTERS, "B"),
    ("[[(B) Paris]]", LETTERS, "B"),
    ("[[B: Paris]]", LETTERS, "B"),
    ("[[**B**. Paris]]", LETTERS, "B"),
    ("[[**B. Paris**]]", LETTERS, "B"),
    ("[[B - Paris]]", LETTERS, "B"),
    ("[[B \u2014 Paris]]", LETTERS, "B"),
    ("[[b -- Paris, France]]", LETTERS, "B"),
    ("[[**B** - Paris]]", LETTERS, "B"),
    ("[[Option B - Paris]]", LETTERS, "B"),
    ("[[B (Paris)]]", LETTERS, "B"),
    ("[[B - 42]]", LETTERS, "B"),
    ("[[B - (Paris)]]", LETTERS, "B"),
    ("[[D - Both A and B]]", LETTERS, "D"),
    ("[[A - B]]", LETTERS, None),
    ("[[A - D]]", LETTERS, None),
    ("[[A (B)]]", LETTERS, None),
    ("[[A (or B)]]", LETTERS, None),
    ("[[A (and B)]]", LETTERS, None),
    ("[[A - or B]]", LETTERS, None),
    ("[[A - no, B]]", LETTERS, None),
    ("[[A - wrong, B is right]]", LETTERS, None),
    ("[[A (wrong), B (right)]]", LETTERS, None),
    ("[[A (wrong), B]]", LETTERS, None),
    ("[[A (wrong) (B)]]", LETTERS, None),
    ("[[A (rather B)]]", LETTERS, None),
    ("[[A - sorry, I mean B]]", LETTERS, None),
    ("[[A - wait, B]]", LETTERS, None),
    ("[[A. I mean B]]", LETTERS, None),
    ("[[A -B]]", LETTERS, None),
    ("[[A -x]]", LETTERS, None),
    ("[[A(x)]]", LETTERS, None),
    ("[[AB - Paris]]", LETTERS, None),
    ("[[E - Paris]]", LETTERS, None),
    ("[[B Paris]]", LETTERS, None),
    ("[[B, Paris]]", LETTERS, None),
    ("[[3 - 10]]", DIGITS, None),
    ("[[3 - x]]", DIGITS, None),
    ("[[3 (2)]]", DIGITS, None),
    ("[[3 (x + 1)]]", DIGITS, None),
    ("[[no - I mean yes]]", WORDS, None),
    ("[[no (yes)]]", WORDS, None),
    ("[[3. the third one]]", DIGITS, "3"),
    ("[[Option B]]", LETTERS, "B"),
    ("[[Answer: B]]", LETTERS, "B"),
    ("[[The final answer is B]]", LETTERS, "B"),
    ("[[Answer:B]]", LETTERS, "B"),
    ("[[B,]]", LETTERS, "B"),
    ("[[x = 6]]", DIGITS, "6"),
    ("[[x = B]]", LETTERS, "B"),
    ("[[A = B]]", LETTERS, None),
    ("[[6,]]", DIGITS, "6"),
    ("[[\uff16]]", DIGITS, "6"),
    ("[[6, 7]]", DIGITS, None),
    # never the choice: two answers, or something that only resembles one
    ("[[A or B]]", LETTERS, None),
    ("[[A, B]]", LETTERS, None),
    ("[[A/B]]", LETTERS, None),
    ("[[AB]]", LETTERS, None),
    ("[[A: B]]", LETTERS, None),
    ("[[A dog]]", LETTERS, None),
    ("[[not B]]", LETTERS, None),
    ("[[E]]", LETTERS, None),
    ("[[Paris]]", LETTERS, None),
    ("[[10]]", DIGITS, None),
    ("[[-3]]", DIGITS, None),
    ("[[3.5]]", DIGITS, None),
    ("[[3:00]]", DIGITS, None),
    ("[[3 - 1]]", DIGITS, None),
    ("[[7 + 2]]", DIGITS, None),
    ("[[2²]]", ("2", "22"), None),
    ("[[\u0412]]", LETTERS, None),  # a Cyrillic Ve looks like B
    ("[[b]]", ("B", "b"), "b"),
    ("[[YES]]", ("Yes", "yes"), None),
    ("[[b.]]", ("B", "b"), "b"),
    ("[[(A) and (B)]]", LETTERS, None),
    ("[[A) and B)]]", LETTERS, None),
    ("[[A. or B]]", LETTERS, None),
    ("[[A. and C. are right]]", LETTERS, None),
    ("[[A) is wrong, (B) is right]]", LETTERS, None),
    ("[[A: no, C]]", LETTERS, None),
    ("[[A), B)]]", LETTERS, None),
    ("[[A) / B)]]", LETTERS, None),
    ("[[A) B)]]", LETTERS, None),
    ("[[a) & b)]]", LETTERS, None),
    ("[[**A**. and **B**.]]", LETTERS, None),
    ("[[Option A: or option B]]", LETTERS, None),
    ("[[A. was my guess, but it is B]]", LETTERS, None),
    ("[[3. and 4]]", DIGITS, None),
    ("[[yes: or maybe]]", WORDS, None),
    # an option's text may name others, or begin with such a word
    ("[[D. Both (A) and (B)]]", LETTERS, "D"),
    ("[[D. either A or B]]", LETTERS, "D"),
    ("[[D. A and B]]", LETTERS, "D"),
    ("[[D. 5 or 6]]", LETTERS, "D"),
    ("[[3. 5 or 6]]", DIGITS, "3"),
    ("[[A. or a dog]]", LETTERS, "A"),
    ("[[A. and (A) alone]]", LETTERS, "A"),
    ("[[B. Not A]]", LETTERS, "B"),
    ("[[A. No, never]]", LETTERS, "A"),
    ("[[A. is larger than B]]", LETTERS, "A"),
    ("[[A. is right]]", LETTERS, "A"),
    ("[[C. Right of A and below]]", LETTERS, "C"),
    # a sign before or after a letter makes it a text, punctuation does not
    ("[[E. ~H]]", TEN, "E"),
    ("[[A. H+]]", TEN, "A"),
    ("[[E. -i]]", TEN, "E"),
    ("[[E. ~~D]]", TEN, "E"),
    ("[[I. ~~C]]", TEN, "I"),
    ("[[G. |c|]]", TEN, "G"),
    ("[[I. -c]]", TEN, "I"),
    ("[[A. - B]]", TEN, None),
    ("[[A) \u2014 **B**.]]", TEN, None),
    ('[[A. "B";]]', TEN, None),
    # an option's text may judge, and speak of a letter
    ("[[C. False, True if G and H are not finite]]", TEN, "C"),
    ("[[A. No, because A was not in privity with B]]", TEN, "A"),
    ("[[B. No, because B's promise to A was illusory]]", TEN, "B"),
    ("[[A. True: hepatitis B is a DNA virus]]", TEN, "A"),
    ("[[D. No, I is not sufficient]]", TEN, "D"),
    ("[[C. II but not I]]", TEN, "C"),
    ("[[B. Yes, but not for A]]", TEN, "B"),
    ("[[B. No, because A was right to refuse]]", TEN, "B"),
    ("[[C. is false if B is empty]]", TEN, "C"),
    ("[[A. no, it is C]]", TEN, None),
    ("[[A. No, the answer is (C).]]", TEN, None),
    ("[[A. no, option C]]", TEN, None),
    ("[[A. no, C. blue]]", TEN, None),
    ("[[A. Wrong: as blue is left, C is right]]", TEN, None),
    ("[[A. is wrong because B was the correct one]]", TEN, None),
    ("[[A) is wrong, as blue is left, so it is C]]", TEN, None),
    ("[[A. wait, no, C]]", TEN, None),
    ("[[A. was my guess, but actually the answer is B]]", TEN, None),
    ("[[X) the 24th]]", tuple(ascii_uppercase), "X"),
    ("[[B answer:]]", LETTERS, None),
    ("[[Option option B]]", LETTERS, None),
    # brackets that are no markers
    ("[[B]] since the matrix [[1, 2], [3, 4]] is regular", LETTERS, "B"),
    ("[[1, 2], [3, 4]]", DIGITS, None),
    ("a[b[0]] = 3", DIGITS, None),
    ("[[B]] and a stray ]", LETTERS, "B"),
    ("[ [[B]]", LETTERS, "B"),
    # quotes
    ("> Which one? [[A]]\nThe second.", LETTERS, None),
    ("> End with [[A]]\n\nSo it is [[B]].", LETTERS, "B"),
    ("So it is [[B]].\n> End with [[A]]", LETTERS, "B"),
    ("  > [[A]]", LETTERS, None),
    ("5 > 3 hence [[A]]", LETTERS, "A"),
    # thinking
    ("<think>maybe [[A]]</think>It is [[B]]", LETTERS, "B"),
    ("It is [[B]]<think>or [[A]]?</think>", LETTERS, "B"),
    ("<think>it must be [[A]]</think>", LETTERS, None),
    ("<think>it must be [[A]]", LETTERS, None),
    ("[[B]] <think>no, wait", LETTERS, None),
    ("it is [[A]]</think>[[B]]", LETTERS, "B"),
    ("it is [[A]]</think>", LETTERS, None),
    ("<think>a</think><think>[[A]]</think>[[C]]", LETTERS, "C"),
    ("<THINKING>[[A]]</THINKING>[[D]]", LETTERS, "D"),
]

FREE = [
    ("so 18 dollars. [[18]]", "18"),
    ("[[1,234]]", "1,234"),
    ("[[ $1,234.50 ]]", "$1,234.50"),
    ("[[$18$]]", "18"),
    ("[[**18**]]", "18"),
    ("[[18 apples]]", "18 apples"),
    ("[[Answer: 42]]", "42"),
    ("[[Answer:]]", "Answer:"),
    ("[[**Answer:** 42]]", "42"),
    ("[[x = 6]]", "x = 6"),
    ("[[\\boxed{18}]]", "18"),
    ("[[x[0]]]", "x[0]"),
    ("[[f(x)]]", "f(x)"),
    ("[[]]", None),
    ("18", None),
    ("[[" + "x" * 500 + "]]", "x" * 500),
    ("[[" + "x" * 501 + "]]", None),
    ("[[U.S.]]", "U.S."),
]

AGREE = [
    ("18", "18", True),
    ("18.0", "18", True),
    ("018", "18", True),
    ("18.", "18", True),
    ("1,234", "1234", True),
    ("1,234,567.80", "1234567.8", True),
    ("$1,234", "1234", True),
    ("\\$5", "5", True),
    ("$5", "5 dollars", True),
    ("USD 5", "$5", True),
    ("-$5", "-5", True),
    ("- $5", "-5", True),
    ("$-5", "-5", True),
    ("\u22125", "-5", True),
    ("5 apples", "5", True),
    ("5 apples", "5 apple", True),
    ("5\\%", "5%", True),
    ("5%", "5", True),
    ("60 km/h", "60", True),
    ("12 m^2", "12", True),
    ("20 miles per hour", "20", True),
    ("1/2", "0.5", True),
    ("\\frac{1}{2}", "0.5", True),
    (".5", "0.5", True),
    ("1e3", "1000", True),
    ("**18**", "18", True),
    ("Paris", "paris", True),
    (" New   York. ", "New York", True),
    # with words before the answer
    ("Answer: 42", "42", True),
    ("answer:42", "42", True),
    ("The final answer is 42.", "42", True),
    ("**Answer:** 42", "42", True),
    ("**Answer: 42**", "42", True),
    ("The final answer is $x=6$.", "6", True),
    ("$42$.", "42", True),
    (r"\boxed{42}.", "42", True),
    ("**42**,", "42", True),
    ("U.S.", "U.S.", True),
    ("Answer: $42$", "42", True),
    ("Answer: \\boxed{42}", "42", True),
    ("#### 42", "42", True),
    ("Answer: Paris", "paris", True),
    ("the answer is New York", "New York", True),
    ("x = 6", "6", True),
    ("x=6", "6", True),
    ("$x = 6$", "6", True),
    ("\\(x = 6\\)", "6", True),
    ("x_1 = 6", "6", True),
    ("f(x) = 6", "6", True),
    ("= 6", "6", True),
    ("x = 6", "x=6", True),
    ("total cost = $6", "6", True),
    ("x = \\frac12", "0.5", True),
    ("x = 6", "x", False),
    ("x = 6", "y = 6", False),
    ("x = 6", "7", False),
    ("x = 6, y = 7", "6", False),
    ("x = 6 or 7", "6", False),
    ("x = y = 6", "6", False),
    ("x1 = 6", "6", True),
    ("x_{12} = 6", "6", True),
    ("the value of x = 6", "6", True),
    ("x = \u20136", "-6", True),
    ("x = \u20136", "6", False),
    ("\\text{Answer: } 42", "42", True),
    ("{6}", "6", True),
    ("\\displaystyle 6", "6", True),
    ("log x = 6", "6", False),
    ("log = 6", "6", False),
    ("sqrt(x) = 6", "6", False),
    ("2x = 6", "6", False),
    ("-x = 6", "6", False),
    ("x^2 = 6", "6", False),
    ("xy = 6", "x = 6", False),
    ("half x = 6", "6", False),
    ("minus x = 6", "6", False),
    ("5\u00b2", "5", False),
    ("5 \u00b2", "5", False),
    ("5\u00b2 m", "5", False),
    ("5 m\u00b2", "5", True),
    ("3 = 6", "6", False),
    ("x < 6", "6", False),
    ("x \u2260 6", "6", False),
    ("Answer: not 42", "42", False),
    ("answer key", "key", False),
    # grouped digits
    ("1\u202f000", "1000", True),
    ("1\u00a0000", "1000", True),
    ("1\u2009000", "1000", True),
    ("1\\,000", "1000", True),
    ("1\\;000", "1000", True),
    ("1~000", "1000", True),
    ("1,\\!000", "1000", True),
    ("1 000", "1000", True),
    ("12 345 678.5", "12345678.5", True),
    ("1'000", "1000", True),
    ("1\u2019000", "1000", True),
    ("1,00,000", "100000", True),
    ("1,23,456", "123456", True),
    ("12,34,56,789.50", "123456789.5", True),
    ("\u20b91,00,000", "100000", True),
    ("1.000.000", "1000000", True),
    ("1.000", "1", True),
    ("1.000", "1000", False),
    ("1 00", "100", False),
    ("1 0000", "10000", False),
    ("10 20", "1020", False),
    ("1,0000", "10000", False),
    ("1,00", "100", False),
    ("1,00,00", "10000", False),
    ("0,500", "500", False),
    ("0,5", "5", False),
    ("5 100/200", "25.5", False),
    # fractions
    ("\\frac12", "0.5", True),
    ("\\frac 12", "0.5", True),
    ("\\frac1{2}", "1/2", True),
    ("\\frac{1}2", "1/2", True),
    ("\\dfrac{1}{2}", "1/2", True),
    ("\\tfrac12", "1/2", True),
    ("-\\frac{1}{2}", "-0.5", True),
    ("\\frac{-1}{2}", "-0.5", True),
    ("\\frac123", "0.5", False),
    ("\\frac123", "1/23", False),
    ("\\frac{1}{2}3", "0.5", False),
    ("\\frac{1}{2}3", "1/23", False),
    ("\\frac{1}{0}", "0", False),
    ("5 1/2", "5.5", True),
    ("5\\frac{1}{2}", "5.5", True),
    ("5\\frac12", "5.5", True),
    ("5\\frac{1}{2}", "25.5", False),
    ("-5 1/2", "-5.5", True),
    ("5\u00bd", "5.5", True),
    ("\u00bd", "0.5", True),
    ("1\u20442", "0.5", True),
    ("5 3/2", "6.5", False),
    ("5 2/2", "6", False),
    ("5 1/2", "25.5", False),
    # signs and scripts
    ("\uff14\uff12", "42", True),
    ("\u0664\u0662", "42", True),
    ("\u20135", "-5", True),
    ("\uff0d5", "-5", True),
    ("5\u20136", "-6", False),
    ("72,", "72", True),
    ("72;", "72", True),
    ("72.", "72", True),
    ("72 ,", "72", True),
    ("Paris,", "Paris", True),
    ("5!", "5", False),
    ("42\\text{ apples}", "42", True),
    ("42~\\mathrm{cm}", "42", True),
    ("42^\\circ", "42", True),
    ("90\u00b0", "90", True),
    ("$$42$$", "42", True),
    ("\\[42\\]", "42", True),
    ("2 \\times 10^3", "2000", True),
    ("1.5\u00d710^{-2}", "0.015", True),
    ("2 \\times 10", "20", False),
    ("2\u00b2", "22", False),
    ("19", "18", False),
    # factors are no units, and units keep what tells them apart
    ("5\u03c0", "5", False),
    ("5 pi", "5", False),
    ("5 pi cm", "5", False),
    ("2\u03c0r", "2", False),
    ("5i", "5", False),
    ("3e", "3", False),
    ("4y", "4", False),
    ("4 Y", "4", False),
    ("4x^2", "4", False),
    ("2xy", "2", False),
    ("2 a day", "2", True),
    ("3 a week", "3", True),
    ("15 a piece", "15", True),
    ("2a", "2", False),
    ("2 a", "2", False),
    ("2 a b", "2", False),
    ("5 theta", "5", True),
    ("5\u03b8", "5", False),
    ("4 Y", "4y", True),
    ("5 negative", "5", False),
    ("5 squared", "5", False),
    ("2 thirds", "2", False),
    ("0.3 repeating", "0.3", False),
    # an ordinal may begin a unit's words, a fraction is no unit
    ("12 seventh graders", "12", True),
    ("30 fourth graders", "30", True),
    ("5 fifth graders", "5", True),
    ("4 third-graders", "4", True),
    ("8 eighth notes", "8", True),
    ("25 half-dollars", "25", True),
    ("6 half-hours", "6", True),
    ("1 half", "1", False),
    ("1 third", "1", False),
    ("2 thirds of a cup", "2", False),
    ("1 third of a cup", "1", False),
    ("2 thirds cups", "2", False),
    ("5 hundred dollars", "5", False),
    ("5 m", "5", True),
    ("5 s", "5", True),
    ("5 N", "5", True),
    ("5 \u03a9", "5", True),
    ("5 \u5143", "5", True),
    ("5 m", "5 ms", False),
    ("5 ms", "5 ms.", True),
    ("5 mW", "5 MW", False),
    ("5 mPa", "5 MPa", False),
    ("5 Pa", "5 pA", False),
    ("5 mW/m", "5 MW/m", False),
    ("5 mW/m^2", "5 MW/m^2", False),
    ("5 \u00b5m", "5 \u03bcm", True),
    ("5 \u2126", "5 \u03a9", True),
    ("5 KM", "5 km", True),
    ("5 kms", "5 km", True),
    ("5 mL", "5 ml", True),
    ("5 Apples", "5 apple", True),
    ("5 M/S", "5 M/S", True),
    ("5 KM/H", "5 km/h", True),
    ("5 percent", "5%", True),
    ("5 per cent", "5%", True),
    ("90 degrees", "90\u00b0", True),
    ("5 Dollars", "$5", True),
    ("20 dollars a day", "20", True),
    ("1E3", "1000", True),
    ("X = 6", "x = 6", True),
    ("5 OR 6", "5", False),
    ("5K", "5", False),
    ("-5", "5", False),
    ("5%", "0.05", False),
    ("$5", "€5", False),
    ("$5 €", "5", False),
    ("5 km", "5 miles", False),
    ("5 million", "5", False),
    ("5k", "5", False),
    ("2 dozen", "2", False),
    ("1,5", "1.5", False),
    ("5-6", "5", False),
    ("5 or 6", "5", False),
    ("5 + 0", "5", False),
    ("1/0", "1", False),
    ("about 5", "5", False),
    ("12:30", "12", False),
    ("Paris", "London", False),
    (None, "18", False),
    ("1" * 300, "1", False),
    ("1e999999999", "1", False),
]


def test_at_least_sixty_replies_are_written_down():
    assert len(CLOSED) + len(FREE) >= 60
    assert len({case[:2] for case in CLOSED}) == len(CLOSED)


@pytest.mark.parametrize(("reply", "allowed", "answer"), CLOSED)
def test_closed_answers(reply, allowed, answer):
    assert parse_answer(reply, allowed) == answer


@pytest.mark.parametrize(("reply", "answer"), FREE)
def test_free_text_answers(reply, answer):
    assert parse_answer(reply, ()) == answer


@pytest.mark.parametrize(("parsed", "gold", "agrees"), AGREE)
def test_agreement(parsed, gold, agrees):
    assert answers_agree(parsed, gold) is agrees
    if parsed is not None:
        assert answers_agree(gold, parsed) is agrees


def test_marker_positions_are_those_of_the_text():
    text = "> [[A]]\nSo [[ B ]]!"
    marker = last_marker(text)
    assert marker is not None
    assert text[marker.start : marker.end] == "[[ B ]]"


@pytest.mark.parametrize(
    "piece",
    ["[", "]", "[]", "]]", "[[", "<think>", "</think>", "<think>[[A]]", "> ", ">\n", "[[A]] ", "$"],
)
@pytest.mark.timeout(20)
def test_a_hostile_megabyte_is_read_in_linear_time(piece):
    reply = piece * (1_000_000 // len(piece))
    assert parse_answer(reply + "\n[[B]]", LETTERS) in {"B", None}
    assert parse_answer("[[" + reply + "]]", ()) is None or piece in {"[]", "[[A]] ", "</think>"}
    answers_agree(reply, "18")


def test_a_span_that_the_prompt_has_opened_must_be_closed():
    assert parse_answer("[[A]]", LETTERS, opened=True) is None
    assert parse_answer("[[A]]</think>[[B]]", LETTERS, opened=True) == "B"


def test_no_marker_is_none():
    assert last_marker("no") is None


def test_a_bare_answer_is_the_first_line_without_signs_of_mathematics():
    assert first_line("\n 42 \nbecause 6 x 7") == "42"
    assert first_line(" \n") == ""
    assert unwrap_math(" $\\boxed{42}$. ") == "42"
    assert unwrap_math("$ (1, 2) $") == "(1, 2)"
    assert unwrap_math("[1, 2]") == "[1, 2]"


def test_a_quantity_has_its_sign_its_unit_and_its_name():
    assert read_quantity("-5") == Quantity(Fraction(-5), "")
    assert read_quantity("x = 1/4") == Quantity(Fraction(1, 4), "", "x")
    assert read_quantity("42\\text{ apples}") == Quantity(Fraction(42), "apples")
    assert read_quantity("USD 5") == read_quantity("5 dollars") == Quantity(Fraction(5), "usd")
    # A longer text is no number, whatever is in it.
    assert read_quantity("5" + " " * 199) == Quantity(Fraction(5), "")
    assert read_quantity("5" + " " * 200) is None


def test_signs_of_every_width_are_plain_and_those_without_a_name_are_kept():
    # The first and the last full-width sign, and one for private use.
    assert plain_signs("\uff01\uff5e\ue000") == "!~\ue000"
    assert strip_ends("MAX. ,") == "MAX"

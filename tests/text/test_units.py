"""Units of numbers: words behind a sign, powers in every form, and amounts that are no units."""

from __future__ import annotations

import pytest

from caft.text.parsing import answers_agree
from caft.text.quantities import read_quantity

AGREE = [
    # words behind a sign
    ("$18 in total", "18", True),
    ("$18 in total", "$18", True),
    ("$18 in total", "18 in total", True),
    ("$20 per hour", "20", True),
    ("$20/hour", "20", True),
    ("$20 / hour", "$20", True),
    ("$5 each", "5 dollars", True),
    ("\u20ac5 each", "5", True),
    ("5 \u20ac each", "5", True),
    ("USD 5 each", "$5", True),
    ("$1,200 per month", "1200", True),
    ("$18 profit", "18", True),
    ("$20 a day", "20", True),
    ("25% of the students", "25", True),
    ("25% of the students", "25%", True),
    ("25% of a class", "25", True),
    ("25% off", "25", True),
    ("15% per year", "15", True),
    ("50\u00a2 each", "50", True),
    ("30\u00b0 C", "30", True),
    ("30\u00b0 C", "30\u00b0C", True),
    ("$18 in total", "19", False),
    ("$20 per hour", "$20 per day", False),
    ("$20 per hour", "20 dollars per day", False),
    ("$18 in total", "\u20ac18", False),
    ("$18 in total", "18%", False),
    ("$18 in total", "18 apples", False),
    ("$5", "5 apples", False),
    ("25% of the students", "25% of the teachers", False),
    ("25% increase", "25% decrease", False),
    ("25% of the students", "$25", False),
    ("50\u00a2 each", "$50", False),
    ("30\u00b0 C", "30\u00b0 F", False),
    ("30\u00b0 C", "30\u00b0F", False),
    ("$5 \u20ac", "5", False),
    ("$5 \u20ac each", "5", False),
    ("$5 euros", "5", False),
    ("$5 EUR", "5", False),
    ("$5 CAD", "5", False),
    ("$5 cents", "5", False),
    ("$5% of them", "5", False),
    ("$5x", "5", False),
    ("$5 x", "5", False),
    ("$5/x", "5", False),
    ("5/x", "5", False),
    ("5/hour", "5", False),
    ("5% x", "5", False),
    ("30\u00b0 x", "30", False),
    ("25% of y", "25", False),
    ("25 percent of y", "25", False),
    ("25% of 80", "25", False),
    ("25% of $80", "25", False),
    ("$5 million", "5", False),
    ("$5 mln", "5", False),
    ("5 mln", "5", False),
    ("\u20ac5 Mio", "5", False),
    ("$5 bil", "5", False),
    ("25% of pi", "25", False),
    ("5 alpha^{2}", "5", False),
    ("5 cosh^{2}", "5", False),
    ("42 meters^{2}", "42", True),
    ("$5/million", "5", False),
    ("$5 M", "5", False),
    ("$5 k", "5", False),
    ("$5 bn", "5", False),
    ("$5k a year", "5", False),
    ("$5 hundred", "5", False),
    ("5% thousand", "5", False),
    ("$5 or less", "5", False),
    ("$5 more than Bob", "5", False),
    ("$5 and change", "5", False),
    ("$5 squared", "5", False),
    ("$5 - $2", "5", False),
    # powers of a unit
    ("42 m^{2}", "42", True),
    (r"42\text{ cm}^{2}", "42 cm^2", True),
    (r"42 \mathrm{m}^{ 2 }", "42 m^2", True),
    ("42 cm\u00b3", "42 cm^3", True),
    ("9.8 m/s\u00b2", "9.8 m/s^2", True),
    ("9.8 m/s^{2}", "9.8 m/s^2", True),
    ("9.8 m/s^{2}", "9.8", True),
    ("42 units^{2}", "42", True),
    ("5x^{2}", "5x^2", False),
    ("42 cm^{2}", "42 cm^3", False),
    ("42 cm\u00b2", "42 cm^3", False),
    ("42 cm^{2}", "42 cm", False),
    ("42 m^{2}", "42^2", False),
    ("5x^{2}", "5", False),
    ("5 x^{2}", "5", False),
    ("5m^{2}", "5", False),
    ("2ab^{2}", "2", False),
    ("2 ab^{2}", "2", False),
    ("42^{2}", "42", False),
    ("42 m^{4}", "42", False),
    ("42 m^{22}", "42", False),
    # amounts
    ("5 lakh", "5", False),
    ("5 lakhs", "5", False),
    ("5 crore", "5", False),
    ("\u20b95 crore", "5", False),
    ("5 cr", "5", False),
    ("5 bn", "5", False),
    ("5 mn", "5", False),
    ("5 tn", "5", False),
    ("5 grand", "5", False),
    ("5 grand pianos", "5", True),
    ("5 crores", "500000", False),
    ("5 crew", "5", True),
]


@pytest.mark.parametrize(("answer", "gold", "agrees"), AGREE)
def test_units(answer: str, gold: str, agrees: bool) -> None:
    assert answers_agree(answer, gold) is agrees
    assert answers_agree(gold, answer) is agrees


@pytest.mark.timeout(20)
def test_a_hostile_unit_takes_no_time() -> None:
    for piece in ("a ", "a/", "a-2", "ab^{2}", " ", "of ", "$ ", "/ ", "\u00b2"):
        for text in (f"$5 {piece * 30}", f"5% {piece * 90}!", f"5 {piece * 400_000}"):
            read_quantity(text)
            answers_agree(text, "5")

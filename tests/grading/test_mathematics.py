r"""Hand-made pairs: what math-verify adds to our rules, and what it must not be asked."""

from __future__ import annotations

import os
import subprocess
import threading
from itertools import permutations
from pathlib import Path

import pytest

from caft.grading import mathematics
from caft.grading.mathematics import _Worker, may_be_mathematics, same_mathematics
from caft.text.parsing import answers_agree

SAME = [
    (r"\sqrt{8}", r"2\sqrt{2}"),
    ("x^2 + 2x + 1", "(x+1)^2"),
    ("[0, 1]", r"\left[0,1\right]"),
    (r"[0,\infty)", r"$\left[0, \infty\right)$"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    ("x<3", "3 > x"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"),
    ("10^3", "1,000"),
    (r"\frac{\pi}{2}", r"\frac12 \pi"),
    ("a + b", "b+a"),
    ("1 1/2", r"\sqrt{\frac94}"),
    ("5\u03c0", r"\pi 5"),
    ("\u03c0", "x = pi"),
]
DIFFERENT = [
    ("[1,2]", "(1,2)"),  # closed and open
    ("[5,120]", "(5,120)"),
    ("(1,2]", "(1,2)"),
    (r"\sqrt{8}", r"\sqrt{2}"),
    ("(x+1)^2", "x^2+1"),
    ("(1,2)", "(2,1)"),
    ("x<3", "x>3"),
    (r"\frac{2}{3}\pi", r"\frac{3}{2}\pi"),
    ("1 1/2", r"\sqrt{1}"),  # math-verify reads the first as 1
    ("5\u03c0", "5"),
    ("5 pi", "5"),
    ("5", "5i"),
    ("2i", "2"),
    ("3e", "3"),
    ("4y", "4"),
]
BY_RULES = [
    ("5 pi", r"5\pi", True),
    ("12\u03c0 cm\u00b2", r"12\pi", True),
    ("1/2", "0.5", True),
    (r"\frac{1}{2}", "0.5", True),
    ("1,000", "1000", True),
    ("1,000", "1", False),
    ("18 dollars", "$18", True),
    ("72 km", "72 m", False),  # math-verify drops units
    ("5 million", "5", False),
    ("42 or 43", "43", False),
    ("abc", "cab", False),  # math-verify reads products of letters
    ("no", "on", False),
    ("The Tower", "the tower", True),
    ("April 5", "5", False),
    ("9" * 300, "9" * 301, False),
    ("x^2 ", "x^2", True),
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_mathematics_in_another_form_is_the_same(answer: str, gold: str) -> None:
    assert same_mathematics(answer, gold)
    assert same_mathematics(gold, answer)
    assert not answers_agree(answer, gold)


def test_pi_is_pi_however_it_is_written() -> None:
    for answer, gold in permutations(("pi", r"\pi", "\u03c0"), 2):
        assert same_mathematics(answer, gold)
        assert answers_agree(answer, gold)


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_mathematics_that_looks_alike_is_not_the_same(answer: str, gold: str) -> None:
    assert not same_mathematics(answer, gold)
    assert not same_mathematics(gold, answer)


@pytest.mark.parametrize(("answer", "gold", "same"), BY_RULES)
def test_numbers_units_and_words_are_compared_by_our_rules_alone(
    answer: str, gold: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*pair: str) -> bool:
        raise AssertionError(pair)

    monkeypatch.setattr(mathematics, "_ask", refuse)
    assert same_mathematics(answer, gold) is same
    assert answers_agree(answer, gold) is same


def test_a_pair_that_takes_too_long_has_no_verdict_and_costs_no_other_pair_its_own(
    tmp_path: Path,
) -> None:
    worker = _Worker(cpu_seconds=1.0)
    verdicts: dict[str, bool | None] = {}

    def ask(answer: str, gold: str) -> None:
        verdicts[answer] = worker.ask(answer, gold)

    code = f"__import__('os').system('touch {tmp_path}/executed')"
    # The power alone has 370 million digits, and no signal reaches the multiplication.
    pairs = [("9^{9^{9}}", "1"), ("2x", "x+x"), ("3x", "x+x"), (code, "1"), ("\\frac{", "1")]
    threads = [threading.Thread(target=ask, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.close()
    assert not list(tmp_path.iterdir())
    assert verdicts == {"9^{9^{9}}": None, "2x": True, "3x": False, code: None, "\\frac{": None}


def test_without_a_verdict_our_rules_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "_ask", lambda *_: None)
    assert same_mathematics("[A,2]", "[a,2]")
    assert not same_mathematics("10^3", "1000")


@pytest.mark.parametrize(
    ("text", "may"),
    [("2xy+1", True), ("12", True), (r"\text{even}", False), ("5 km", False), ("yes", False),
     (r"\sin(2x)", True), ("x", False), (r"\pi", True), ("pi", True), ("2\u03c0r", True),
     ("raspberry pi", False), ("sin(2)", True), (r"2\pi x", True),
     (r"3x\text{m}", True), ("1" * 200, True), ("1" * 201, False)],
)  # fmt: skip
def test_what_may_be_mathematics(text: str, may: bool) -> None:
    assert may_be_mathematics(text) is may


class Echo(_Worker):
    """Its process says again what it is asked."""

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_answers_until_it_is_closed_and_a_fork_starts_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Echo()
    worker.close()
    # What it says is no verdict.
    assert worker.ask("2x", "x+x") is None
    first = worker._process
    assert first is not None
    worker.ask("3x", "x+x")
    assert worker._process is first
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        worker.ask("2x", "x+x")
        second = worker._process
        assert second is not None
        assert second is not first
    # To this process the second is another's: it is left alone.
    worker.close()
    assert second.poll() is None
    worker._process, worker._owner = first, os.getpid()
    worker.close()
    assert first.returncode is not None
    second.kill()
    second.communicate()

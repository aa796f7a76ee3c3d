"""The verdict on one answer, by the grader that its question names."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from caft.errors import UserError
from caft.grading.mathematics import same_mathematics
from caft.grading.own import load_own
from caft.records import Question
from caft.text.answers import gold_label
from caft.text.config import OptionIds
from caft.text.parsing import answers_agree

Grade = Callable[[str, str, Question], bool]
"""(answer, gold, question): whether `answer` means the same as `gold`. The question is for reading:
its text, its subject."""

MATH_VERIFY = "math_verify"


def is_right(answer: str | None, question: Question, option_ids: OptionIds) -> bool:
    """Whether `answer`, as it was read from a reply, is the right one; None is not.

    UserError if a grader of the user's own fails.
    """
    gold = gold_label(question, option_ids)
    if answer is None or not question.grader:
        return answers_agree(answer, gold)
    return _load(question.grader)(answer, gold, question)


def agreement_of(question: Question) -> Callable[[str, str], bool]:
    """Whether two answers to a question are one: by math-verify where it grades, else by our rules.

    A grader of the user's own knows a gold answer, and there is none here.
    """
    graded = question.grader.startswith(f"{MATH_VERIFY} ")
    return same_mathematics if graded else answers_agree


def rules_differ(answer: str | None, correct: bool, question: Question, ids: OptionIds) -> bool:
    """Whether our own rules would have graded an answer otherwise than its grader did."""
    return bool(question.grader) and answers_agree(answer, gold_label(question, ids)) != correct


@lru_cache(maxsize=8)
def _load(grader: str) -> Grade:
    name = grader.partition(" ")[0]
    if name == MATH_VERIFY:
        return lambda answer, gold, _: same_mathematics(answer, gold)
    own = load_own(name)

    def grade(answer: str, gold: str, question: Question) -> bool:
        return ask_own(own, name, answer, gold, question)

    return grade


def ask_own(own: Callable[..., object], name: str, *asked: object) -> bool:
    """What a function of the user's own says; UserError where that is neither True nor False."""
    try:
        verdict = own(*asked)
    except (Exception, SystemExit) as error:
        problem = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
    else:
        if isinstance(verdict, bool):
            return verdict
        problem = f"returned {verdict!r:.80}"
    answer, gold, question = asked
    assert isinstance(question, Question)
    raise UserError(
        f"dataset.grader {name} {problem} for the answer {answer!r:.80} and the gold answer "
        f"{gold!r:.80} of question {question.id}; it is called with (answer, gold, question) and "
        "returns True or False"
    )

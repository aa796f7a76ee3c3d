"""Which grader decides: `dataset.grader`, resolved before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from caft.errors import UserError, did_you_mean
from caft.grading.judge import MATH_VERIFY, ask_own
from caft.grading.mathematics import may_be_mathematics
from caft.grading.own import is_own, load_own, version_of
from caft.packed import pack, values_of
from caft.program import install_hint
from caft.records import Question

log = logging.getLogger(__name__)
AUTO, RULES = "auto", "rules"
_NAMES = (AUTO, RULES, MATH_VERIFY)


def choose_grader(name: str) -> str:
    """The grader that `dataset.grader` means here, with its version; "" for our own rules.

    UserError if there is none of that name, or it is not installed.
    """
    if is_own(name):
        return f"{name} {version_of(load_own(name))}"
    if name not in _NAMES:
        raise UserError(
            f"dataset.grader is {name!r}; give {', '.join(_NAMES)}, or module:function of your own"
            f"{did_you_mean(name, _NAMES)}"
        )
    installed = _math_verify()
    if name == MATH_VERIFY and not installed:
        raise UserError(
            f"dataset.grader is math_verify, which is not installed; run {install_hint('math')}, "
            "or give auto, rules, or module:function of your own"
        )
    return "" if name == RULES else installed


def set_grader(question: Question, grader: str) -> Question:
    """The question, with the grader if its answer is one that it decides: free text alone.

    math-verify decides those whose gold answer may be mathematics, and words are left to our rules.
    """
    return replace(question, grader=grader) if grader and _decides(grader, question) else question


def grade_by(
    asked: str, parts: Mapping[str, Sequence[Question]], where: str = ""
) -> dict[str, Sequence[Question]]:
    """The questions of each part, with the grader that `asked` means, which is said after `where`.

    UserError as `choose_grader`, and if the user's own function refuses a gold answer as its own.
    """
    grader = choose_grader(asked)
    graded = {
        name: pack(set_grader(item, grader) for item in part)
        if grader and None in values_of(part, "gold_index")
        else part
        for name, part in parts.items()
    }
    first = (item for part in graded.values() for item in part if item.grader)
    _try_grader(next(first, None), asked, where)
    return graded


def _try_grader(graded: Question | None, asked: str, where: str) -> None:
    if graded is None:
        if asked not in (AUTO, RULES):
            effect = "has no effect: it decides no answer here"
            log.warning("%sdataset.grader=%s %s", where, asked, effect)
        return
    name = graded.grader.partition(" ")[0]
    log.info("%sfree answers are graded by %s (dataset.grader=%s)", where, graded.grader, asked)
    if name == MATH_VERIFY:
        return
    if not ask_own(load_own(name), name, graded.gold_text, graded.gold_text, graded):
        raise UserError(
            f"dataset.grader {name} says that the gold answer {graded.gold_text!r:.80} of question "
            f"{graded.id} is wrong; it is called with (answer, gold, question) and returns True "
            "where the two mean the same"
        )


def _decides(grader: str, question: Question) -> bool:
    if question.gold_index is not None:
        return False
    return not grader.startswith(f"{MATH_VERIFY} ") or may_be_mathematics(question.gold_text)


def _math_verify() -> str:
    # math-verify needs a parser of LaTeX, which is an extra of its own.
    if find_spec("math_verify") is None or find_spec("latex2sympy2_extended") is None:
        return ""
    try:
        parser = version("latex2sympy2_extended")
        return f"{MATH_VERIFY} {version('math-verify')} {parser}"
    except PackageNotFoundError:
        return ""

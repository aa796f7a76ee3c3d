"""Which option a file's answer points to. Pure."""

from __future__ import annotations

import difflib
import string
from collections.abc import Sequence

from caft.data.config import AnswerForm
from caft.errors import UserError

FORMS = (AnswerForm.letter, AnswerForm.index, AnswerForm.text)


def find_gold(
    answer: object, options: Sequence[str], form: AnswerForm, first_index: int
) -> int | None:
    """The option (from 0) that `answer` means when read as `form`; None where it means none."""
    if form is AnswerForm.letter:
        return _by_letter(answer, options)
    if form is AnswerForm.index:
        return _by_index(answer, options, first_index)
    return _by_text(answer, options)


def _by_letter(answer: object, options: Sequence[str]) -> int | None:
    letter = answer.strip().upper() if isinstance(answer, str) else ""
    if len(letter) != 1 or letter not in string.ascii_uppercase[: len(options)]:
        return None
    return string.ascii_uppercase.index(letter)


def _by_index(answer: object, options: Sequence[str], first_index: int) -> int | None:
    number = as_whole_number(answer)
    if number is None or not 0 <= number - first_index < len(options):
        return None
    return number - first_index


def as_whole_number(value: object) -> int | None:
    """A whole number given as int, as a float without a fraction, or as digits; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    return None


def _by_text(answer: object, options: Sequence[str]) -> int | None:
    text = as_text(answer)
    # Two options in the same words cannot be told apart by those words.
    return options.index(text) if text is not None and options.count(text) == 1 else None


def as_text(value: object) -> str | None:
    """Text without outer white space; numbers as they are written; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip()


def choose_form(
    answers: Sequence[tuple[object, Sequence[str]]], first_index: int, column: str
) -> AnswerForm:
    """The one form under which every answer is among its options.

    Where none fits every row, the one that fits most, so that the odd rows can be named. Raises
    UserError where two forms fit and disagree, and where whole numbers from 1 up could be
    indices from 0 as well as from 1: a guess there would shift every gold answer by one.
    """
    readings = {
        form: [find_gold(answer, options, form, first_index) for answer, options in answers]
        for form in FORMS
    }
    complete = [form for form in FORMS if None not in readings[form]]
    if any(readings[form] != readings[complete[0]] for form in complete[1:]):
        names = " and as ".join(form.value for form in complete)
        raise UserError(
            f"column {column!r} can be read as {names}, with other answers; set "
            f"dataset.answer_form to one of {', '.join(form.value for form in complete)}"
        )
    form = (complete or sorted(FORMS, key=lambda form: readings[form].count(None)))[0]
    if form is AnswerForm.index and 0 not in readings[form]:
        raise UserError(
            f"column {column!r} holds whole numbers and never {first_index}, so they may count "
            "from 0 or from 1; set dataset.answer_form=index and dataset.first_index=0 or 1"
        )
    return form


def describe_missed(
    answer: object, options: Sequence[str], form: AnswerForm, first_index: int
) -> str:
    """Why `answer` is none of `options`, and what it could be."""
    given = f"answer {answer!r} is not among the {len(options)} options"
    if form is AnswerForm.letter:
        return f"{given}; read as letter, it may be A to {string.ascii_uppercase[len(options) - 1]}"
    if form is AnswerForm.index:
        last = first_index + len(options) - 1
        return f"{given}; read as index, it may be {first_index} to {last} (dataset.first_index)"
    text = as_text(answer) or ""
    if options.count(text) > 1:
        return f"answer {answer!r} is the text of two options; make the options differ"
    near = difflib.get_close_matches(text, options, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{given}; read as text, it must be one of them word by word{hint}"

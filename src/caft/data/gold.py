"""Finds the option that a file's answer names. Pure."""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Iterable, Sequence

from caft.data.cells import as_text, as_whole_number, is_number, show
from caft.data.config import AnswerForm
from caft.errors import UserError

FORMS = (AnswerForm.letter, AnswerForm.index, AnswerForm.text)
BASES = (0, 1)
"""The numbers that a first option may have."""

Answers = Iterable[tuple[object, Sequence[str]]]
"""The answers of a file's rows, each with its options."""

_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\].:]?", re.ASCII)


def find_gold(
    answer: object, options: Sequence[str], form: AnswerForm, first_index: int
) -> int | None:
    """The option (from 0) that `answer` names when read as `form`, or None."""
    if form is AnswerForm.letter:
        return _by_letter(answer, options)
    if form is AnswerForm.index:
        return _by_index(answer, options, first_index)
    return _by_text(answer, options)


def _by_letter(answer: object, options: Sequence[str]) -> int | None:
    found = _LETTER.fullmatch(answer.strip()) if isinstance(answer, str) else None
    letters = string.ascii_uppercase[: len(options)]
    return letters.index(found[1].upper()) if found and found[1].upper() in letters else None


def _by_index(answer: object, options: Sequence[str], first_index: int) -> int | None:
    number = as_whole_number(answer)
    place = -1 if number is None else number - first_index
    return place if 0 <= place < len(options) else None


def _by_text(answer: object, options: Sequence[str]) -> int | None:
    text = as_text(answer)
    if not text:
        return None
    same = [place for place, option in enumerate(options) if option == text]
    same = same or [place for place, option in enumerate(options) if _mean_the_same(option, text)]
    # The text of two options does not decide between them.
    return same[0] if len(same) == 1 else None


def _mean_the_same(option: str, text: str) -> bool:
    """Whether both are the same number or truth value."""
    if is_number(option) and is_number(text):
        return float(option) == float(text)
    return text.casefold() in ("true", "false") and option.casefold() == text.casefold()


def choose_form(
    answers: Answers, form: AnswerForm, first_index: int | None, column: str
) -> tuple[AnswerForm, int]:
    """The form in which most answers are among their options, and the index of the first option.

    `form` is that form or `auto`. Raises UserError if two forms fit as many rows and disagree, or
    if whole numbers could count from 0 as well as from 1: a guess could shift every gold answer by
    one.
    """
    forms = FORMS if form is AnswerForm.auto else (form,)
    ways = [(form, base) for form in forms for base in _bases(form, first_index)]
    readings: dict[tuple[AnswerForm, int], list[int | None]] = {way: [] for way in ways}
    for pair in answers:
        for way, found in readings.items():
            found.append(find_gold(*pair, *way))
    fewest = min(found.count(None) for found in readings.values())
    best = [way for way in ways if readings[way].count(None) == fewest]
    pairs = (
        pair for way in best[1:] for pair in zip(readings[best[0]], readings[way], strict=True)
    )
    if any(one != other for one, other in pairs if None not in (one, other)):
        names = list(dict.fromkeys(form.value for form, _ in best))
        if names == [AnswerForm.index.value]:
            raise UserError(
                f"column {column!r} holds whole numbers that fit the options as well from 0 as "
                "from 1; set dataset.first_index=0 or dataset.first_index=1"
            )
        advice = " or ".join(f"dataset.answer_form={name}" for name in names)
        raise UserError(
            f"column {column!r} can be read as {' and as '.join(names)}, with other answers; set "
            f"{advice}"
        )
    return best[0]


def _bases(form: AnswerForm, first_index: int | None) -> tuple[int, ...]:
    if form is AnswerForm.index and first_index is None:
        return BASES
    return (first_index or 0,)


def describe_missed(
    answer: object, options: Sequence[str], form: AnswerForm, first_index: int
) -> str:
    """An error message: `answer` is none of `options`, and what it could be."""
    given = f"answer {show(answer)} is not among the {len(options)} options"
    if form is AnswerForm.letter:
        return f"{given}; read as letter, it may be A to {string.ascii_uppercase[len(options) - 1]}"
    if form is AnswerForm.index:
        if as_whole_number(answer) == _NO_ANSWER:
            return f"{given}; -1 stands for no answer, as in hidden test rows: give others"
        last = first_index + len(options) - 1
        return f"{given}; read as index, it may be {first_index} to {last} (dataset.first_index)"
    text = as_text(answer) or ""
    if options.count(text) > 1:
        return f"answer {show(answer)} is the text of two options; make the options differ"
    near = difflib.get_close_matches(text[:_COMPARED], [o[:_COMPARED] for o in options], n=1)
    hint = f"; did you mean {show(near[0])}?" if near else ""
    return f"{given}; read as text, it must be one of them word by word{hint}"


_NO_ANSWER = -1
"""How the hub's datasets write it."""

_COMPARED = 200
"""Characters that are compared to find a similar option: the search is quadratic in them."""

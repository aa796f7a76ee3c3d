"""From rows of a file to questions: the only place that knows what a column means."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from caft.data.cells import as_text, is_missing, is_number, show, tidy_column
from caft.data.config import AnswerForm, ColumnsConfig
from caft.data.files import Row, Table, refuse_missing_columns
from caft.data.gold import choose_base, choose_form, describe_missed, find_gold
from caft.data.row_errors import read_each
from caft.errors import UserError
from caft.records import Question

LEAST_OPTIONS, MOST_OPTIONS = 2, 26
LONGEST_TEXT = 500_000
"""Characters: tokenizers take minutes over a text that is refused for its length afterwards."""

# JSON may escape half of a surrogate pair.
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the columns of one set of files are read.

    `options` holds column names: none, one with a list, or several with one option each.
    """

    columns: ColumnsConfig
    options: tuple[str, ...]
    answer_set: tuple[str, ...] = ()
    answer_form: AnswerForm = AnswerForm.auto
    first_index: int = 0
    refuse_equal: bool = True


def plan_reading(
    tables: Sequence[Table],
    columns: ColumnsConfig,
    *,
    answer_set: Sequence[str] = (),
    answer_form: AnswerForm = AnswerForm.auto,
    first_index: int | None = None,
    refuse_equal: bool = True,
    tell: bool = True,
) -> Reading:
    """Check the columns of all files and settle how answers are written, once for all of them.

    A `first_index` of None is decided from the rows; `refuse_equal` refuses questions in which
    the gold option stands twice; `tell` says what is decided. Raises UserError for a missing
    column (naming the nearest), and for dials that contradict each other.
    """
    reading = Reading(
        columns=columns,
        options=tuple(columns.options or ()),
        answer_set=tuple(answer_set),
        answer_form=answer_form,
        first_index=first_index or 0,
        refuse_equal=refuse_equal,
    )
    for table in tables:
        refuse_missing_columns(table, _wanted_columns(reading), _ADVICE)
    _refuse_contradictions(reading)
    if not reading.options:
        return replace(reading, answer_form=AnswerForm.text)
    return _settle_form(reading, tables, first_index, tell=tell)


def _settle_form(
    reading: Reading, tables: Sequence[Table], first_index: int | None, *, tell: bool
) -> Reading:
    decided = reading.answer_form is not AnswerForm.index or first_index is not None
    if reading.answer_form is not AnswerForm.auto and decided:
        return reading
    readable = [_answer_and_options(row, reading) for table in tables for row in table.rows]
    answers = [pair for pair in readable if pair is not None]
    if not answers:  # every row has bad options, and reading them will say so
        return replace(reading, answer_form=AnswerForm.text)
    column = reading.columns.answer
    if reading.answer_form is AnswerForm.index:
        form, base = AnswerForm.index, choose_base(answers, column)
    else:
        form, base = choose_form(answers, first_index, column)
    from_base = f", counting from {base}" if form is AnswerForm.index else ""
    log.log(
        logging.INFO if tell else logging.DEBUG,
        "answers in column %r are read as %s%s",
        column,
        form.value,
        from_base,
    )
    return replace(reading, answer_form=form, first_index=base)


def read_questions(table: Table, reading: Reading) -> tuple[Question, ...]:
    """One question a row, in order. Raises UserError naming wrong rows by file and line."""
    return read_each(table.rows, lambda row: read_question(row, reading))


def read_question(row: Row, reading: Reading) -> Question:
    """The question of one row, every cell checked."""
    columns = reading.columns
    text = _read_text(row, columns.question)
    if not text:
        raise UserError(f"{row.origin}: column {columns.question!r} is empty; give a question")
    if is_number(text):
        value = row.values.get(columns.question)
        raise UserError(
            f"{row.origin}: column {columns.question!r} holds {show(value)} "
            f"({type(value).__name__}); give text, a number is no question"
        )
    question = Question(
        id="",
        text=text,
        options=read_options(row, reading),
        answer_set=() if reading.options else reading.answer_set,
        subject=_read_text(row, columns.subject),
        rationale=_read_text(row, columns.rationale) or None,
        origin=row.origin,
    )
    question = _with_gold(question, row, reading)
    return replace(question, id=_read_id(row, columns.id) if columns.id else make_id(question))


def make_id(question: Question) -> str:
    """An id made of the content: the same row has it in every file and at every line."""
    parts = [question.text, *question.options, str(question.gold_index), question.gold_text]
    return "q" + hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:12]


def read_options(row: Row, reading: Reading) -> tuple[str, ...]:
    """The options of one row, 2 to 26, none empty."""
    if not reading.options:
        return ()
    values = _option_values(row, reading.options)
    options = [as_text(value) for value in values]
    for place, (option, value) in enumerate(zip(options, values, strict=True), start=1):
        if option is None:
            missing = " (missing)" if is_missing(value) else ""
            raise UserError(
                f"{row.origin}: option {place} is {show(value)}{missing}; options must be text"
            )
        if not option:
            raise UserError(f"{row.origin}: option {place} is empty; give it a text or drop it")
    if not LEAST_OPTIONS <= len(options) <= MOST_OPTIONS:
        raise UserError(
            f"{row.origin}: {len(options)} options; give {LEAST_OPTIONS} to {MOST_OPTIONS}, or "
            "set dataset.columns.options=null for free text"
        )
    return tuple(_refuse_unfit_text(option, row.origin) for option in options if option)


def _option_values(row: Row, names: Sequence[str]) -> list[object]:
    if len(names) > 1:
        cells = [row.values.get(name) for name in names]
        while cells and is_missing(cells[-1]):  # a table's way to say: fewer options
            cells.pop()
        return cells
    value = row.values.get(names[0])
    if isinstance(value, str):
        value = _parse_list(value)
    if not isinstance(value, list):
        raise UserError(
            f"{row.origin}: column {names[0]!r} holds no list of options; give a list, a JSON "
            'list as text such as ["red", "blue"], or name one column an option: '
            "dataset.columns.options=A,B,C,D"
        )
    return tidy_column([value])[0]  # type: ignore[return-value]


def _parse_list(text: str) -> object:
    """A list that is written as JSON or, by table libraries, as in Python; else None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # Python joins texts without a comma between, as arrays are printed, into one.
    if not text.lstrip().startswith("[") or _NO_COMMA.search(text):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


_NO_COMMA = re.compile(r"""['"]\s+['"]""")


def _answer_and_options(row: Row, reading: Reading) -> tuple[object, tuple[str, ...]] | None:
    try:
        options = read_options(row, reading)
    except UserError:  # named when the row is read as a question
        return None
    answer = row.values.get(reading.columns.answer)
    return None if is_missing(answer) else (answer, options)


def _with_gold(question: Question, row: Row, reading: Reading) -> Question:
    column = reading.columns.answer
    answer = row.values.get(column)
    text = as_text(answer)
    if not text:
        raise UserError(
            f"{row.origin}: column {column!r} holds {show(answer)}; give the answer as text or "
            "number"
        )
    choices = question.options or question.answer_set
    if not choices:
        return replace(question, gold_text=_refuse_unfit_text(text, row.origin))
    form, first = reading.answer_form, reading.first_index
    gold = find_gold(answer, choices, form, first)
    if gold is not None:
        _refuse_equal_options(question, gold, reading)
        return replace(question, gold_index=gold)
    if isinstance(answer, bool) and question.options:
        raise UserError(
            f"{row.origin}: column {column!r} holds {answer}, which is none of the options; give "
            "the answer as one of them, or make them True and False"
        )
    if question.options:
        raise UserError(f"{row.origin}: {describe_missed(answer, choices, form, first)}")
    raise UserError(
        f"{row.origin}: answer {show(answer)} is not in dataset.answer_set ({', '.join(choices)})"
    )


def _refuse_equal_options(question: Question, gold: int, reading: Reading) -> None:
    places = equal_to_gold(replace(question, gold_index=gold))
    if places and reading.refuse_equal:
        raise UserError(
            f"{question.origin}: options {gold + 1} and {places[0] + 1} are both "
            f"{show(question.options[gold])}, the answer; make the options differ"
        )


def equal_to_gold(question: Question) -> list[int]:
    """The places of other options that have the gold option's words."""
    if question.gold_index is None or not question.options:
        return []
    words = [" ".join(option.split()) for option in question.options]
    return [
        place
        for place, option in enumerate(words)
        if place != question.gold_index and option == words[question.gold_index]
    ]


def _read_text(row: Row, column: str | None) -> str:
    value = row.values.get(column) if column else None
    if is_missing(value):
        return ""
    text = as_text(value)
    if text is None or isinstance(value, bool):
        raise UserError(
            f"{row.origin}: column {column!r} holds {show(value)} ({type(value).__name__}); give "
            "text"
        )
    return _refuse_unfit_text(text, row.origin)


def _read_id(row: Row, column: str) -> str:
    value = row.values.get(column)
    if isinstance(value, bool | float) or not (text := as_text(value)):
        raise UserError(
            f"{row.origin}: column {column!r} holds {show(value)}; give an id as text or whole "
            "number"
        )
    return _refuse_unfit_text(text, row.origin)


def _refuse_unfit_text(text: str, origin: str) -> str:
    """What no tokenizer and no file can take, and what no model can read."""
    if _HALF_A_PAIR.search(text):
        raise UserError(f"{origin}: a text holds half a surrogate pair; repair its \\u escapes")
    if len(text) > LONGEST_TEXT:
        raise UserError(
            f"{origin}: a text of {len(text):,} characters, beginning {show(text[:60])}; give at "
            f"most {LONGEST_TEXT:,}, more than models read"
        )
    return text


_ADVICE = {
    "dataset.columns.options": "; name a column with a list, or one column an option as in "
    "dataset.columns.options=A,B,C,D, or set dataset.columns.options=null for free text"
}


def _wanted_columns(reading: Reading) -> dict[str, str]:
    columns = reading.columns
    named = {
        "id": columns.id,
        "question": columns.question,
        "answer": columns.answer,
        "subject": columns.subject,
        "rationale": columns.rationale,
    }
    wanted = {f"dataset.columns.{key}": name for key, name in named.items() if name}
    many = len(reading.options) > 1
    for place, name in enumerate(reading.options, start=1):
        wanted[f"dataset.columns.options{f' (name {place})' if many else ''}"] = name
    return wanted


def _refuse_contradictions(reading: Reading) -> None:
    if reading.options and reading.answer_set:
        raise UserError(
            "dataset.answer_set and dataset.columns.options are both set; an answer set is for "
            "questions without listed options: drop it, or set dataset.columns.options=null"
        )
    if not reading.options and reading.answer_form not in (AnswerForm.auto, AnswerForm.text):
        raise UserError(
            f"dataset.answer_form is {reading.answer_form.value}, but there are no options to "
            "point to; name dataset.columns.options, or set dataset.answer_form=text"
        )

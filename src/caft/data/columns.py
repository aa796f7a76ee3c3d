"""Turns the rows of a file into questions."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress, product

from caft.data.cells import as_text, find_rule, is_missing, is_number, show
from caft.data.config import AnswerForm, ColumnsConfig
from caft.data.files import Row, Table, refuse_missing_columns
from caft.data.gold import BASES, FORMS, choose_form, describe_missed, find_gold
from caft.data.row_errors import read_each, refuse_mistakes
from caft.data.shapes import parse_literal
from caft.errors import UserError, count_of
from caft.packed import pack, values_of
from caft.records import Question

LEAST_OPTIONS, MOST_OPTIONS = 2, 26
LONGEST_TEXT = 500_000
"""Characters: tokenizers take minutes for a text that is refused for its length afterwards."""

_FREE_TEXT = "dataset=text with dataset.columns.options=null"

# JSON may escape half of a surrogate pair.
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the columns of a set of files are read.

    A `first_index` of None is decided from all rows. `refuse_equal` refuses questions in which
    another option equals the gold one, and `refuse_fewer` those that lack the last of several
    columns. `rationale_prefix` is no part of a solution.
    """

    columns: ColumnsConfig
    answer_set: tuple[str, ...] = ()
    answer_form: AnswerForm = AnswerForm.auto
    first_index: int | None = None
    refuse_equal: bool = True
    refuse_fewer: bool = False
    rationale_prefix: str = ""

    @property
    def options(self) -> Sequence[str]:
        """Column names: none, one with a list, or several with one option each."""
        return self.columns.options or ()


def read_questions(tables: Mapping[str, Table], reading: Reading) -> dict[str, Sequence[Question]]:
    """One question a row, in order, by the keys of `tables`.

    How answers are written is decided once for all tables, and logged. Raises
    UserError for a missing column, settings that contradict each other, and wrong rows, which it
    names by file and line.
    """
    decided = settle(tables, reading)
    return {
        name: read_each(table.rows, lambda row: _read_question(row, decided))
        for name, table in tables.items()
    }


def read_ids(tables: Mapping[str, Table], reading: Reading) -> Iterator[tuple[str, Sequence[str]]]:
    """The ids of `read_questions`, by the keys of `tables`; the questions are not kept."""
    decided = settle(tables, reading, quiet=True)
    for name, table in tables.items():
        yield name, read_each(table.rows, lambda row: _read_question(row, decided).id)


def settle(tables: Mapping[str, Table], reading: Reading, *, quiet: bool = False) -> Reading:
    """The reading with the form of the answers decided. Raises UserError as `read_questions`."""
    for table in tables.values():
        refuse_missing_columns(table, name_columns(reading.columns), _advise(table, reading))
    _refuse_contradictions(reading)
    rows = chain.from_iterable(table.rows for table in tables.values())
    return _decide_form(reading, rows, quiet=quiet)


def refuse_disagreement(table: Table, given: Table, reading: Reading) -> None:
    """UserError for rows whose second answer is another one, in the form in which most agree.

    `given` are the rows before options and answers of `table` were rewritten: a second answer may
    be right as it was there, and that is what a message quotes.
    """
    if not reading.columns.second_answer:
        return
    names = (reading.columns.answer, reading.columns.second_answer)
    columns = replace(reading.columns, answer=names[1])
    forms = FORMS if reading.options else (AnswerForm.text,)
    wrong: Sequence[Row] = given.rows
    for seconds, form, base in product((table, given), forms, BASES):
        second = replace(reading, columns=columns, answer_form=form, first_index=base)
        disagreeing = [
            told
            for row, told, other in zip(table.rows, given.rows, seconds.rows, strict=True)
            if _disagrees(row, reading, other.values.get(names[1]), second)
        ]
        wrong = min(wrong, disagreeing, key=len)
        if not wrong:
            return
    told = (
        f"{row.origin}: column "
        + " and ".join(f"{name!r} says {show(row.values.get(name))}" for name in names)
        + ", which are different answers"
        for row in wrong
    )
    advice = "correct them, or set dataset.columns.second_answer=null"
    refuse_mistakes([*told], advice)


def _disagrees(row: Row, reading: Reading, other: object, second: Reading) -> bool:
    """Whether a row has two answers. One that is no question is left to be read as such."""
    try:
        choices = _read_options(row, reading) if reading.options else reading.answer_set
        gold = _read_gold(row, reading, choices)
    except UserError:
        return False
    try:
        asked = Row(row.origin, {second.columns.answer: other})
        return _read_gold(asked, second, choices) != gold
    except UserError:
        return True


def lack_few_options(tables: Iterable[Table], names: Sequence[str]) -> bool:
    """Whether in every table so few rows lack the last of these options that it is a mistake."""
    return all(
        sum(map(is_missing, values_of(table.rows, "values", names[-1])))
        <= _MOST_UNREADABLE * len(table.rows)
        for table in tables
    )


def keep_readable(table: Table, reading: Reading) -> Table:
    """The rows that are questions, if nearly all are; else all, for the error that names them."""
    kept, mistakes = [], []
    for row in table.rows:
        try:
            _read_question(row, reading)
            kept.append(True)
        except UserError as error:
            kept.append(False)
            mistakes.append(str(error))
    if not mistakes or len(mistakes) > _MOST_UNREADABLE * len(table.rows):
        return table
    verb = "is" if len(mistakes) == 1 else "are"
    rows = count_of(len(mistakes), "row")
    log.warning("%s %s left out, such as: %s", rows, verb, mistakes[0])
    return replace(table, rows=pack(compress(table.rows, kept)))


_MOST_UNREADABLE = 0.02
"""A larger share of published rows is a mistake in the settings."""


def _decide_form(reading: Reading, rows: Iterable[Row], *, quiet: bool) -> Reading:
    form, base = reading.answer_form, reading.first_index
    if not reading.options:
        return replace(reading, answer_form=AnswerForm.text)
    if form is not AnswerForm.auto and (form is not AnswerForm.index or base is not None):
        return reading
    answers = (pair for row in rows if (pair := _answer_and_options(row, reading)) is not None)
    first = next(answers, None)
    if first is None:  # every row has bad options, which reading them will report
        return replace(reading, answer_form=AnswerForm.text)
    column = reading.columns.answer
    form, base = choose_form(chain([first], answers), form, base, column)
    from_base = f", counting from {base}" if form is AnswerForm.index else ""
    level = logging.DEBUG if quiet else logging.INFO
    log.log(level, "answers in column %r are read as %s%s", column, form.value, from_base)
    return replace(reading, answer_form=form, first_index=base)


def _read_question(row: Row, reading: Reading) -> Question:
    columns = reading.columns
    text = _read_text(row, columns.question)
    if not text:
        raise UserError(f"{row.origin}: column {columns.question!r} is empty; give a question")
    if is_number(text):
        kind = f" ({type(row.values.get(columns.question)).__name__})"
        raise row.wrong_cell(columns.question, "give text, a number is not a question", kind)
    if context := _read_text(row, columns.context):
        text = f"{context}\n\n{text}"
    options = _read_options(row, reading) if reading.options else ()
    answer_set = () if reading.options else reading.answer_set
    subject = sys.intern(_read_text(row, columns.subject))
    rationale = _read_text(row, columns.rationale).removeprefix(reading.rationale_prefix).strip()
    gold_index, gold_text = _read_gold(row, reading, options or answer_set)
    content = [text, *options, str(gold_index), gold_text]
    return Question(
        id=_read_id(row, columns.id) if columns.id else _name(content),
        text=text,
        options=options,
        answer_set=answer_set,
        gold_index=gold_index,
        gold_text=gold_text,
        subject=subject,
        rationale=rationale or None,
        origin=row.origin,
    )


def _name(parts: Sequence[str]) -> str:
    return "q" + hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:12]


def _read_options(row: Row, reading: Reading) -> tuple[str, ...]:
    options = []
    for place, value in enumerate(_option_values(row, reading), start=1):
        option = as_text(value)
        if option is None:
            missing = " (missing)" if is_missing(value) else ""
            raise UserError(
                f"{row.origin}: option {place} is {show(value)}{missing}; options must be text"
            )
        if not option:
            raise UserError(f"{row.origin}: option {place} is empty; give it a text or drop it")
        options.append(_refuse_unfit_text(option, row.origin))
    if not LEAST_OPTIONS <= len(options) <= MOST_OPTIONS:
        raise UserError(
            f"{row.origin}: {count_of(len(options), 'option')}; give {LEAST_OPTIONS} to "
            f"{MOST_OPTIONS}, or, for free text, {_FREE_TEXT}"
        )
    return tuple(options)


def _option_values(row: Row, reading: Reading) -> list[object]:
    names = reading.options
    if len(names) > 1:
        cells = [row.values.get(name) for name in names]
        while cells and is_missing(cells[-1]) and not reading.refuse_fewer:
            cells.pop()
        return cells
    value = row.values.get(names[0])
    if isinstance(value, str):
        value = parse_literal(value)
    if not isinstance(value, list):
        raise UserError(
            f"{row.origin}: column {names[0]!r} holds no list of options; give a list, a JSON "
            'list as text such as ["red", "blue"], or name one column an option: '
            "dataset.columns.options=A,B,C,D"
        )
    return find_rule([value])(value)  # type: ignore[return-value]


def _answer_and_options(row: Row, reading: Reading) -> tuple[object, tuple[str, ...]] | None:
    answer = row.values.get(reading.columns.answer)
    try:
        options = _read_options(row, reading)
    except UserError:  # reported when the row is read as a question
        return None
    return None if is_missing(answer) else (answer, options)


def _read_gold(row: Row, reading: Reading, choices: tuple[str, ...]) -> tuple[int | None, str]:
    """The gold answer's place among the choices; without any, its text."""
    column = reading.columns.answer
    answer = row.values.get(column)
    text = as_text(answer)
    if not text:
        raise row.wrong_cell(column, "give the answer as text or number")
    if not choices:
        return None, _refuse_unfit_text(text, row.origin)
    form, first = reading.answer_form, reading.first_index or 0
    gold = find_gold(answer, choices, form, first)
    if gold is not None:
        if reading.options and reading.refuse_equal and (others := _equal_to(gold, choices)):
            raise UserError(
                f"{row.origin}: options {gold + 1} and {others[0] + 1} are both "
                f"{show(choices[gold])}, the answer; make the options differ"
            )
        return gold, ""
    if not reading.options:
        raise UserError(
            f"{row.origin}: answer {show(answer)} is not in dataset.answer_set "
            f"({', '.join(choices)})"
        )
    if isinstance(answer, bool):
        advice = "give the answer as one of them, or make them True and False"
        raise row.wrong_cell(column, advice, ", which is none of the options")
    raise UserError(f"{row.origin}: {describe_missed(answer, choices, form, first)}")


def equal_to_gold(question: Question) -> list[int]:
    """The places of other options with the gold option's text."""
    if question.gold_index is None or not question.options:
        return []
    return _equal_to(question.gold_index, question.options)


def _equal_to(gold: int, options: Sequence[str]) -> list[int]:
    words = [" ".join(option.split()) for option in options]
    return [place for place, option in enumerate(words) if place != gold and option == words[gold]]


def _read_text(row: Row, column: str | None) -> str:
    value = row.values.get(column) if column else None
    if is_missing(value):
        return ""
    text = as_text(value)
    if text is None or isinstance(value, bool):
        raise row.wrong_cell(str(column), "give text", f" ({type(value).__name__})")
    return _refuse_unfit_text(text, row.origin)


def _read_id(row: Row, column: str) -> str:
    value = row.values.get(column)
    if isinstance(value, bool | float) or not (text := as_text(value)):
        raise row.wrong_cell(column, "give an id as text or whole number")
    return _refuse_unfit_text(text, row.origin)


def _refuse_unfit_text(text: str, origin: str) -> str:
    if _HALF_A_PAIR.search(text):
        raise UserError(f"{origin}: a text holds half a surrogate pair; repair its \\u escapes")
    if len(text) > LONGEST_TEXT:
        raise UserError(
            f"{origin}: a text of {len(text):,} characters, beginning {show(text[:60])}; give at "
            f"most {LONGEST_TEXT:,}, which is more than models read"
        )
    return text


def _advise(table: Table, reading: Reading) -> dict[str, str]:
    """How to name a column; options with the file's own, where they can be typed as they are."""
    named = name_columns(reading.columns)
    others = [each for each in table.columns if each not in named.values() and each.isidentifier()]
    example = ",".join(others[:4] if len(others) > 1 else "ABCD")
    several = "; give dataset.columns.options=[NAME,...]"
    return {key: several if "(name " in key else f"; give {key}=NAME" for key in named} | {
        "dataset.columns.options": "; name a column with a list, or one column an option as in "
        f"dataset.columns.options={example}, or, for free text, {_FREE_TEXT}"
    }


def name_columns(columns: ColumnsConfig) -> dict[str, str]:
    """The columns that a config names, by their config keys."""
    keys = ("id", "question", "context", "answer", "second_answer", "subject", "rationale")
    named = {f"dataset.columns.{key}": getattr(columns, key) for key in keys}
    options = columns.options or ()
    for place, name in enumerate(options, start=1):
        named[f"dataset.columns.options{f' (name {place})' * (len(options) > 1)}"] = name
    return {key: name for key, name in named.items() if name}


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

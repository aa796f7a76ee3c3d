"""Finds a file's columns where their names are not the default ones. Pure.

A name that the file has is taken as it is, and so is every name that is not a default. Only a
default that the file does not have is looked for, among names that other data sets use; two
candidates are none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from string import ascii_lowercase

from caft.data.cells import as_text, is_missing
from caft.data.config import ColumnsConfig, MappedConfig
from caft.data.files import Row, Table
from caft.data.shapes import (
    CONVERSATIONS,
    INSTRUCTIONS,
    are_consecutive,
    flatten_conversations,
    join_instructions,
    list_options,
    split_numbers,
)
from caft.errors import UserError
from caft.packed import pack, values_of

_QUESTION = (
    "q",
    "problem",
    "prompt",
    "query",
    "instruction",
    "question_text",
    "question_stem",
    "stem",
)
_OPTIONS = ("choices", "candidates", "alternatives", "answer_choices", "answer_options")
_ANSWER = (
    *("label", "answer_key", "answer_letter", "answer_index", "answer_idx", "answer_id", "correct"),
    *("correct_answer", "correct_option", "correct_index", "correct_idx", "correct_choice"),
    *("right_answer", "cop", "gold", "target", "output", "response", "completion"),
)
# They hold no options, so a file with no other columns has free-text answers.
_OTHERS = (
    *("id", "idx", "index", "question_id", "uid", "uuid", "subject", "category", "topic", "type"),
    *("level", "difficulty", "split", "source", "rationale", "explanation", "solution", "hint"),
    *("cot", "cot_content", "reasoning", "url", "input", *CONVERSATIONS),
)
_SERIES = re.compile(r"((?:option|choice|opt|op|answer)[ _.-]?|)([a-z]|\d+)", re.IGNORECASE)
TRUTHS = (("True", "False"), ("Yes", "No"))


@dataclass(frozen=True, slots=True)
class Recognised:
    """Tables with the columns that `columns` names; `sources` says where each part stood."""

    tables: Mapping[str, Table]
    columns: ColumnsConfig
    sources: Mapping[str, str]


def recognise(tables: Mapping[str, Table], config: MappedConfig) -> Recognised:
    """The columns of all files, found once in the first of them, and options as plain lists.

    UserError where a file has its options elsewhere.
    """
    columns = config.columns
    first = next(iter(tables.values()))
    rewritten, shape = _rewrite(tables, first, columns)
    first = next(iter(rewritten.values()))
    found = _find_columns(first, columns)
    if shape:
        found = _take_shape(first, found, columns)
    answers = [found.answer, *filter(None, [found.second_answer])]
    if columns.options and found.options is None and not config.answer_set:
        rewritten = {name: _offer_truths(table, answers) for name, table in rewritten.items()}
        if all("options" in table.columns for table in rewritten.values()):
            found = replace(found, options=["options"])
    _refuse_other_options(rewritten, columns, found.options or ())
    if found.options and len(found.options) == 1:
        name = found.options[0]
        rewritten = {
            split: list_options(table, name, answers) for split, table in rewritten.items()
        }
    sources = _describe(found, shape)
    if not (found.options or found.rationale):
        apart = split_numbers(rewritten, *answers)
        if apart is not rewritten:
            found = replace(found, rationale="rationale")
            sources["rationale"] = f"{found.answer}, before ####"
        rewritten = apart
    return Recognised(rewritten, found, sources)


def _rewrite(
    tables: Mapping[str, Table], first: Table, columns: ColumnsConfig
) -> tuple[Mapping[str, Table], str]:
    """The tables with columns of their own for question and answer, and the shape's name."""
    default = ColumnsConfig()
    if (columns.question, columns.answer) != (default.question, default.answer):
        return tables, ""
    if {columns.question, columns.answer} & set(first.columns):
        return tables, ""
    for column, shape in CONVERSATIONS.items():
        if all(column in table.columns for table in tables.values()):
            return flatten_conversations(tables, column), shape
    for names, shape in INSTRUCTIONS.items():
        if all({names[0], names[-1]} <= set(table.columns) for table in tables.values()):
            return join_instructions(tables, names), shape
    return tables, ""


def _take_shape(table: Table, found: ColumnsConfig, columns: ColumnsConfig) -> ColumnsConfig:
    """Rows of another tool are free text unless a column has options."""
    listed = found.options != columns.options or _has(table.columns, "options")
    told = found.rationale or ("rationale" if "rationale" in table.columns else None)
    return replace(found, options=found.options if listed else None, rationale=told)


def _find_columns(table: Table, columns: ColumnsConfig) -> ColumnsConfig:
    default, names = ColumnsConfig(), table.columns
    found = replace(columns)
    if columns.question == default.question:
        found.question = _find(names, columns.question, _QUESTION)
    if columns.answer == default.answer:
        found.answer = _find(names, columns.answer, _ANSWER)
    if columns.options == default.options and not _has(names, "options"):
        one = _find(names, "options", _OPTIONS)
        found.options = [one] if one in names else find_series(names) or columns.options
        used = {getattr(found, field.name) for field in fields(found) if field.name != "options"}
        if found.options == columns.options and {found.question, found.answer} <= set(names):
            left = [name for name in names if name not in used and _plain(name) not in _KNOWN]
            found.options = found.options if left else None
    return found


def _refuse_other_options(
    tables: Mapping[str, Table], columns: ColumnsConfig, expected: Sequence[str]
) -> None:
    """Read as the first file, another one would lose some of its options, or all of them.

    Beside a first file without options, `answer_1` is one more answer to a free question.
    """
    first, *others = tables.values()
    expected = expected if {*expected} <= {*first.columns} else ()
    wanted = {*map(str.casefold, expected)}
    for table in others:
        found = [
            name for name in _find_columns(table, columns).options or () if _fills(table, name)
        ]
        if not found or (not wanted and found[1:] and found[0].casefold().startswith("answer")):
            continue
        lacks_some = not wanted <= {*map(str.casefold, table.columns)}
        if lacks_some or wanted < {*map(str.casefold, found)}:
            of_first = f"in {', '.join(expected)}" if expected else "has none"
            raise UserError(
                f"{table.name} has its options in {', '.join(found)}, and {first.name} {of_first}; "
                "give both files the same columns (a cell may be empty), or say which to read: "
                "dataset.columns.options=[NAME,...], or null for free text"
            )


def _fills(table: Table, column: str) -> bool:
    if column not in table.columns:
        return False
    return not all(map(is_missing, values_of(table.rows, "values", column)))


def _find(names: Sequence[str], default: str, others: Sequence[str]) -> str:
    """The default, unless the file lacks it and has exactly one of the other names."""
    if _has(names, default):
        return default
    plain = {_plain(other) for other in others}
    found = [name for name in names if _plain(name) in plain]
    return found[0] if len(found) == 1 else default


def _has(names: Sequence[str], name: str) -> bool:
    return any(each.casefold() == name for each in names)


def _plain(name: str) -> str:
    return re.sub(r"[ _.-]", "", name).casefold()


_KNOWN = {_plain(name) for name in _OTHERS}


def find_series(names: Sequence[str]) -> list[str] | None:
    """The columns of one option each, such as A, B, C or option_1, option_2; None if not sure."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        if (part := _SERIES.fullmatch(name)) and (part[1] or part[2].isalpha()):
            groups[part[1].casefold()][part[2].casefold()] = name
    fitting = []
    for prefix, group in groups.items():
        labels = sorted(group, key=lambda label: (len(label), label))
        if not prefix:  # a letter may be the name of anything
            labels = [
                label for place, label in enumerate(labels) if label == ascii_lowercase[place]
            ]
        if len(labels) > 1 and are_consecutive(labels):
            fitting.append([group[label] for label in labels])
    return fitting[0] if len(fitting) == 1 else None


def _offer_truths(table: Table, answers: Sequence[str]) -> Table:
    """The table with the options True and False (Yes and No), if all its answers are these.

    The first of `answers` names their column; a second one is written alike.
    """
    given = {
        text.casefold()
        for value in values_of(table.rows, "values", answers[0])
        if not is_missing(value) and (text := as_text(value))
    }
    for truths in TRUTHS:
        if given and given <= {word.casefold() for word in truths}:
            return replace(
                table,
                columns=(*table.columns, "options"),
                rows=pack(_offer(row, answers, truths) for row in table.rows),
            )
    return table


def _offer(row: Row, answers: Sequence[str], truths: Sequence[str]) -> Row:
    words = {word.casefold(): word for word in truths}
    given = {name: as_text(row.values.get(name)) for name in answers}
    named = {name: words.get((text or "").casefold(), text) for name, text in given.items()}
    return Row(row.origin, {**row.values, "options": list(truths), **named})


def _describe(columns: ColumnsConfig, shape: str) -> dict[str, str]:
    """Where each part of a question stands, for the table of the first row."""
    options = columns.options or ()
    sources = {
        "id": columns.id or "made of the content",
        "question": ", ".join(filter(None, (columns.context, columns.question))),
        "options": ", ".join(options) or "none: free text",
        "answer": columns.answer,
        "subject": columns.subject or "",
        "rationale": columns.rationale or "",
    }
    if shape:
        of_shape = {"question": shape, "answer": shape}
        sources |= of_shape | ({"rationale": shape} if columns.rationale == "rationale" else {})
    return {part: source for part, source in sources.items() if source}

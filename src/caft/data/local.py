"""Your own files: JSONL, CSV or parquet, with a mapping of their columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from caft.data.columns import (
    Reading,
    keep_readable,
    lack_few_options,
    name_columns,
    read_ids,
    read_questions,
    refuse_disagreement,
    settle,
)
from caft.data.config import AnswerForm, ColumnsConfig, HubConfig, LocalConfig, MappedConfig
from caft.data.dedup import divide, take_test
from caft.data.files import READERS, Row, Table, adopt_names, read_table, refuse_missing_columns
from caft.data.recognise import Recognised, recognise
from caft.data.row_errors import read_each, refuse_mistakes
from caft.data.shapes import FINAL_NUMBER
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.packed import pack, values_of
from caft.records import Question
from caft.text.parsing import LONGEST_ANSWER


def load_local(config: LocalConfig) -> QuestionSplits:
    """All splits of the files that `config` names. Raises UserError for everything wrong in them.

    Row counts draw a sample by dataset.seed, since files are often sorted; file order is kept.
    """
    return read_mapped(read_files(config), config)


def load_test_file(config: LocalConfig) -> QuestionSplits:
    """The test questions of `test_path` alone. UserError for shots, which are training rows."""
    if config.prompt.shots:
        raise UserError(
            f"dataset.prompt.shots is {config.prompt.shots}, and test_path stands alone; set "
            "train_path too, from which shots are drawn, or leave them out"
        )
    tables = {"test": read_table(str(config.test_path), "dataset.test_path")}
    return read_mapped(tables, config, divide_rows=take_test)


def read_mapped(
    tables: Mapping[str, Table],
    config: MappedConfig,
    divide_rows: Callable[..., QuestionSplits] = divide,
) -> QuestionSplits:
    """All splits of `tables`, whose columns `config` names or leaves to be recognised."""
    tables = _adopt(tables, config.columns)
    read = _recognise(tables, config)
    reading, unread = _reading(config, read.columns), 0
    published = isinstance(config, HubConfig)
    if published and len(named := config.columns.options or ()) > 1:
        few = lack_few_options(read.tables.values(), named)
        reading = replace(reading, refuse_fewer=few)
    reading = settle(read.tables, reading)
    for split, table in read.tables.items():
        refuse_disagreement(table, tables[split], reading)
    tables = read.tables
    if published:  # nobody can correct published rows
        tables = {split: keep_readable(table, reading) for split, table in read.tables.items()}
        unread = sum(len(read.tables[split].rows) - len(tables[split].rows) for split in tables)
    questions, columns, sources = read_questions(tables, reading), read.columns, read.sources
    del tables, read  # the rows are read, and need as much memory as the questions
    own = replace(columns, rationale=config.columns.rationale)
    _refuse_solutions([*questions.values()], own, sources["answer"])
    answer = f"{sources['answer']}, as {_describe_form(reading)}"
    splits = divide_rows(config, **questions)
    removed = {**splits.removed, **({"rows that are no question": unread} if unread else {})}
    return replace(splits, removed=removed, sources={**sources, "answer": answer})


def _recognise(tables: Mapping[str, Table], config: MappedConfig) -> Recognised:
    """The columns of tables with the config's names, or else by the names of other data sets."""
    read = recognise(tables, config)
    return replace(read, tables=_adopt(read.tables, read.columns))


def _adopt(tables: Mapping[str, Table], columns: ColumnsConfig) -> dict[str, Table]:
    names = list(name_columns(columns).values())
    return {key: adopt_names(table, names) for key, table in tables.items()}


def _describe_form(reading: Reading) -> str:
    if not reading.options and not reading.answer_set:
        return "free text"
    index = reading.answer_form is AnswerForm.index
    return reading.answer_form.value + (f" from {reading.first_index or 0}" if index else "")


def _reading(config: MappedConfig, columns: ColumnsConfig) -> Reading:
    return Reading(
        columns=columns,
        answer_set=tuple(config.answer_set),
        answer_form=config.answer_form,
        first_index=config.first_index,
        refuse_equal=isinstance(config, LocalConfig),
        rationale_prefix=config.rationale_prefix or "",
    )


def _refuse_solutions(
    parts: Sequence[Sequence[Question]], columns: ColumnsConfig, source: str
) -> None:
    """UserError if gold answers are worked solutions, which no reply can equal.

    The rationale of `columns` is the one that the user named. `source` is where the answers stood:
    a column, or the replies of another tool's rows.
    """
    golds = [
        pack(question for question in part if question.gold_text)
        for part in parts
        if any(values_of(part, "gold_text"))
    ]
    told = f"column {source!r}"
    separate = "into a column of its own and name it in dataset.columns.answer"
    marked = f"put what is in the brackets {separate}"
    boxed, number = f"put what is in the box {separate}", f"put the number {separate}"
    if source != columns.answer:
        told = f"the reply ({source})"
        advice = (f"end every reply of the file so, or {each}" for each in (boxed, number, marked))
        boxed, number, marked = advice
    elif columns.rationale is None:
        number = f"end every answer so, or {number}"
    _refuse_most(golds, _BOX_IN_PROSE, told, "with the answer in \\boxed{}", boxed)
    _refuse_most(golds, FINAL_NUMBER, told, "that end in '#### NUMBER'", number)
    _refuse_most(golds, _MARKED_IN_PROSE, told, "with the answer in [[ ]]", marked)
    refuse_mistakes(
        [
            f"{question.origin}: the answer has {len(question.gold_text):,} characters in "
            f"{len(question.gold_text.splitlines())} lines, and no reply can equal it: one line of "
            f"up to {LONGEST_ANSWER} is read"
            for question in chain.from_iterable(golds)
            if len(question.gold_text) > LONGEST_ANSWER or len(question.gold_text.splitlines()) > 1
        ],
        "name the column with the bare answers in dataset.columns.answer, and the one with "
        "solutions in dataset.columns.rationale",
    )


# The form of MATH's solutions.
_BOX_IN_PROSE = re.compile(r"\w\w.*\\f?boxed\s*\{", re.DOTALL)
_MARKED_IN_PROSE = re.compile(r"\w\w.*\[\[[^\[\]]+\]\]", re.DOTALL)


def _refuse_most(
    parts: Sequence[Sequence[Question]],
    solved: re.Pattern[str],
    told: str,
    form: str,
    advice: str,
) -> None:
    for golds in parts:
        found = [question for question in golds if solved.search(question.gold_text)]
        if 2 * len(found) > len(golds):
            others = (gold for gold in golds if not solved.search(gold.gold_text))
            other = next((f" (not {gold.origin})" for gold in others), "")
            raise UserError(
                f"{found[0].origin}: {told} holds whole worked solutions {form}, in "
                f"{len(found)} of {len(golds)} rows{other}; {advice}"
            )


def read_files(config: LocalConfig) -> dict[str, Table]:
    """The rows of every file that `config` names, by split."""
    if config.train_path is None:
        raise UserError(
            f"dataset.train_path is not set; dataset={config.name} needs one file "
            f"({', '.join(READERS)}), such as dataset.train_path=questions.jsonl"
        )
    paths = {
        "train": config.train_path,
        "validation": config.validation_path,
        "test": config.test_path,
    }
    return {
        split: read_table(path, f"dataset.{split}_path")
        for split, path in paths.items()
        if path is not None
    }


def read_published_scores(
    config: LocalConfig, entropy_column: str, correct_column: str
) -> dict[str, tuple[float, bool]]:
    """Entropy in nats and correctness by question id, from every row of every file.

    Rows that `duplicates=first` leaves out are included. Raises UserError if a value is no entropy
    or no truth value, or if an id has two different scores.
    """
    read = _recognise(_adopt(read_files(config), config.columns), config)
    tables = read.tables
    scores: dict[str, tuple[float, bool]] = {}
    mistakes = []
    for split, ids in read_ids(tables, _reading(config, read.columns)):
        origins = values_of(tables[split].rows, "origin")
        published = read_scores(tables[split], entropy_column, correct_column)
        for origin, name, score in zip(origins, ids, published, strict=True):
            if scores.setdefault(name, score) != score:
                mistakes.append(f"{origin}: id {name!r} has two different scores")
    refuse_mistakes(mistakes, "give every question one published score")
    return scores


def read_scores(
    table: Table, entropy_column: str, correct_column: str
) -> Sequence[tuple[float, bool]]:
    """Entropy in nats and correctness of every row. Raises UserError for values that are none."""
    refuse_missing_columns(
        table, {"score.entropy_column": entropy_column, "score.correct_column": correct_column}
    )
    return read_each(table.rows, lambda row: _read_score(row, entropy_column, correct_column))


def _read_score(row: Row, entropy_column: str, correct_column: str) -> tuple[float, bool]:
    nats, correct = row.read_nats(entropy_column), row.values.get(correct_column)
    truth = _TRUTHS.get(str(correct).strip().lower())
    if truth is None:
        raise row.wrong_cell(correct_column, "give true or false, or 1 or 0")
    return nats, truth


_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}

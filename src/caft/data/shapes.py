"""Row shapes of other tools, rewritten as one question, its options and one answer a row. Pure.

Conversations (ShareGPT's `conversations`, OpenAI's `messages`), Alpaca's instruction and input,
TRL's prompt and completion, and options with labels of their own: a dict of letters, a dict of two
lists, a list of dicts.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase

from caft.data.cells import as_text, is_missing
from caft.data.files import Row, Table
from caft.data.row_errors import read_each
from caft.errors import UserError
from caft.packed import pack, values_of

CONVERSATIONS = {"messages": "OpenAI messages", "conversations": "ShareGPT conversations"}
INSTRUCTIONS = {
    ("instruction", "input", "output"): "Alpaca",
    ("instruction", "context", "response"): "Dolly",
    ("prompt", "completion"): "TRL",
}
_ROLES = {
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "model", "chatgpt", "bot"),
    "system": ("system", "developer"),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}
# How a solution marks its final answer, at its end.
_ENDINGS = (
    re.compile(r"####\s*(?P<answer>[^\n]+?)\s*$"),
    re.compile(r"\[\[(?P<answer>[^\[\]]+)\]\][\s.*]*$"),
    re.compile(r"\\boxed\{(?P<answer>[^{}]+)\}[\s.$]*$"),
)
FINAL_NUMBER = re.compile(r"####\s*(-?[\d,]*\.?\d+)\s*$")
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_ARRAY = re.compile(r"array\((\[.*?\])(?:,\s*dtype=\w+)?\)", re.DOTALL)
_NO_COMMA = re.compile(r"""['"]\s+['"]""")


def parse_literal(text: str) -> object:
    """A list or dict in JSON or, as table libraries write them, in Python; else None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # Arrays are printed without commas, and Python would join their texts.
    if not text.lstrip().startswith(("[", "{")) or _NO_COMMA.search(text):
        return None
    try:
        return ast.literal_eval(_ARRAY.sub(r"\1", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def flatten_conversations(tables: Mapping[str, Table], column: str) -> dict[str, Table]:
    """The tables with the columns question, answer and, where replies have one, rationale.

    A system turn that is the same in every row is left out; others stand before the question.
    Raises UserError for rows that are not one question and one reply.
    """
    turns = {
        name: read_each(table.rows, lambda row: _read_turns(row, column))
        for name, table in tables.items()
    }
    shared = len({each.get("system", "") for part in turns.values() for each in part}) == 1

    def write(turns: Mapping[str, str]) -> dict[str, object]:
        context = "" if shared else turns.get("system", "")
        parts = [part for part in (context, turns["user"]) if part]
        return {"question": "\n\n".join(parts), "answer": turns["assistant"]}

    return _split_solutions({k: _add(v, [*map(write, turns[k])]) for k, v in tables.items()})


def _read_turns(row: Row, column: str) -> dict[str, str]:
    value = row.values.get(column)
    value = parse_literal(value) if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise row.wrong_cell(column, "give a list of turns with role and content")
    roles = [str(turn.get("role") or turn.get("from") or "").casefold() for turn in value]
    names = [_ROLE_OF.get(role, role) for role in roles]
    if names[names[:1] == ["system"] :] != ["user", "assistant"]:
        raise UserError(
            f"{row.origin}: column {column!r} has the turns {', '.join(roles) or 'none'}; one "
            "question and one reply are read: user, assistant, with or without a system turn first"
        )
    texts = [_read_content(turn) for turn in value]
    if not all(text and text.strip() for text in texts[-2:]):
        raise UserError(f"{row.origin}: column {column!r} has a turn without text; leave it out")
    return {name: (text or "").strip() for name, text in zip(names, texts, strict=True)}


def _read_content(turn: Mapping[str, object]) -> str | None:
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):  # OpenAI's parts; pictures and sounds are none of ours
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(map(str, parts)) if None not in parts and parts else None
    return as_text(content)


def join_instructions(tables: Mapping[str, Table], names: Sequence[str]) -> dict[str, Table]:
    """The tables with the columns question (all of `names` but the last), answer and rationale."""

    def write(row: Row) -> dict[str, object]:
        *parts, reply = (_read_part(row, name) for name in names)
        texts = [text for part in parts if (text := as_text(part))]
        return {"question": "\n\n".join(texts), "answer": reply}

    return _split_solutions({k: _add(v, read_each(v.rows, write)) for k, v in tables.items()})


def _read_part(row: Row, column: str) -> object:
    """A cell; where TRL's rows hold one turn of a conversation in it, the turn's text."""
    value = row.values.get(column)
    if not isinstance(value, list):
        return value
    if not value:
        return None
    if len(value) != 1 or not isinstance(value[0], Mapping):
        raise row.wrong_cell(column, "give text, or a list of one turn with role and content")
    return _read_content(value[0])


def split_numbers(
    tables: Mapping[str, Table], answer: str, second: str | None = None
) -> Mapping[str, Table]:
    """The tables with rationale and number apart where all answers of a table are as GSM8K's.

    That is a worked solution, with calculator marks (<<3*400=1200>>), and then `#### 1,200`. The
    same object if none is. Numbers of a second answer are written alike.
    """
    made = {name: _split_numbers(table, answer, second) for name, table in tables.items()}
    if all(made[name] is tables[name] for name in tables):
        return tables
    # What another one has in a column of that name was not asked for.
    return {name: _no_rationale(t) if t is tables[name] else t for name, t in made.items()}


def _split_numbers(table: Table, answer: str, second: str | None) -> Table:
    if not all(FINAL_NUMBER.search(str(cell)) for cell in values_of(table.rows, "values", answer)):
        return table
    parts = [FINAL_NUMBER.split(str(row.values[answer])) for row in table.rows]
    split = [
        {answer: number.replace(",", ""), "rationale": _CALCULATOR.sub("", solution).strip()}
        for solution, number, _ in parts
    ]
    if second in table.columns:
        for cell, own in zip(values_of(table.rows, "values", second), split, strict=True):
            if number := FINAL_NUMBER.search(f"#### {cell}"):
                own[second] = number[1].replace(",", "")
    return _add(table, split)


def _split_solutions(tables: dict[str, Table]) -> dict[str, Table]:
    """Replies of a table become a rationale and an answer if all of them mark it in one way."""
    return _share({name: _split_table(table) for name, table in tables.items()})


def _share(tables: dict[str, Table]) -> dict[str, Table]:
    """A rationale that some tables have is missing in the others, which may have bare answers."""
    if not any("rationale" in table.columns for table in tables.values()):
        return tables
    return {
        name: table if "rationale" in table.columns else _no_rationale(table)
        for name, table in tables.items()
    }


def _no_rationale(table: Table) -> Table:
    return _add(table, [{"rationale": None} for _ in table.rows])


def _split_table(table: Table) -> Table:
    replies = [str(row.values.get("answer")) for row in table.rows]
    for ending in _ENDINGS:
        found = [ending.search(reply) for reply in replies]
        if all(found):
            split = [
                {
                    "answer": end["answer"].strip(),
                    "rationale": _CALCULATOR.sub("", reply[: end.start()]).strip() or None,
                }
                for end, reply in zip(found, replies, strict=True)
                if end
            ]
            return _add(table, split)
    return table


def _add(table: Table, made: Sequence[Mapping[str, object]]) -> Table:
    rows = pack(
        Row(row.origin, {**row.values, **values})
        for row, values in zip(table.rows, made, strict=True)
    )
    return replace(table, rows=rows, columns=tuple(dict.fromkeys([*table.columns, *made[0]])))


def list_options(table: Table, options: str, answers: Sequence[str]) -> Table:
    """The table with labelled options as plain lists, and answers that are labels as letters.

    Rows whose options have no labels are not changed.
    """

    def rewrite(row: Row) -> Row:
        found = _labelled(row.values.get(options))
        if found is None:
            return row
        labels, texts = found
        letters = dict(zip(labels, ascii_uppercase, strict=False))
        given = {name: as_text(row.values.get(name)) or "" for name in answers}
        lettered = {name: letters[text] for name, text in given.items() if text in letters}
        return Row(row.origin, {**row.values, options: texts, **lettered})

    if all(_labelled(cell) is None for cell in values_of(table.rows, "values", options)):
        return table
    return replace(table, rows=pack(map(rewrite, table.rows)))


def _labelled(value: object) -> tuple[list[str], list[object]] | None:
    """Labels and texts of options, in order; None for a plain list and for anything else."""
    if isinstance(value, str):
        value = parse_literal(value) if value.lstrip().startswith(_LABELLED) else None
    pairs = [(str(label).strip(), text) for label, text in _pairs(value) if not is_missing(text)]
    if len(pairs) < 2 or len({label for label, _ in pairs}) < len(pairs):
        return None
    if isinstance(value, Mapping) and not _is_lists(value):
        if not are_consecutive(sorted(label for label, _ in pairs)):
            return None
        pairs.sort(key=lambda pair: pair[0])
    return [label for label, _ in pairs], [text for _, text in pairs]


def _pairs(value: object) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        if _is_lists(value):
            return list(zip(_first(value, _LABELS), _first(value, _TEXTS), strict=False))  # type: ignore[call-overload]
        return list(value.items())
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return [(_first(each, _LABELS), _first(each, _TEXTS)) for each in value]
    return []


_LABELLED = ("{", "[{", "[ {", "[\n")
_LABELS = ("label", "labels", "key", "id", "letter")
_TEXTS = ("text", "texts", "value", "content", "option", "choice")


def _first(value: Mapping[str, object], names: Sequence[str]) -> object:
    return next((value[name] for name in names if name in value), None)


def _is_lists(value: Mapping[str, object]) -> bool:
    return isinstance(_first(value, _LABELS), list) and isinstance(_first(value, _TEXTS), list)


def are_consecutive(labels: Sequence[str]) -> bool:
    """Whether labels are a, b, c, ... or count from 0 or 1; case does not matter."""
    count, folded = len(labels), [label.casefold() for label in labels]
    runs: list[Callable[[int], str]] = [str, lambda n: str(n + 1)]
    if count <= len(ascii_uppercase):
        runs.append(lambda n: ascii_uppercase[n].casefold())
    return any(folded == [run(place) for place in range(count)] for run in runs)

"""`until=data`: how the first row of a dataset was read, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from caft.console import open_console
from caft.data import QuestionSplits
from caft.data.checks import refuse_other_prompts
from caft.pipeline.preflight import load_graded
from caft.records import Question
from caft.run_config import RunConfig
from caft.text.answers import answer_labels, gold_label
from caft.text.config import OptionIds

_WIDEST = 80
_LONGEST = 240
"""Characters of a text that are shown: the place is what matters, not every word."""


def print_data(config: RunConfig) -> None:
    """Read the dataset, downloading it if need be, and show its first row and its counts.

    UserError as a run would end with: for its rows, its prompts and its grader.
    """
    questions = load_graded(config.dataset)
    refuse_other_prompts(questions.train, config.dataset)
    print_first_row(questions, config)
    console = open_console()
    counts = ", ".join(f"{len(part)} {name}" for name, part in questions.parts())
    console.print(f"{config.dataset.name}: {counts} questions.", width=min(_WIDEST, console.width))
    for reason, count in questions.removed.items():
        console.print(f"left out, {reason}: {count}", width=min(_WIDEST, console.width))


def print_first_row(questions: QuestionSplits, config: RunConfig) -> None:
    """A table of the first row's parts: their columns in the file, and what was read."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console, first = open_console(), first_question(questions)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("part", "column", "read as"):
        table.add_column(column, overflow="fold")
    for part, text in describe(first, config.dataset.prompt.option_ids):
        table.add_row(part, questions.sources.get(part, ""), text)
    width = min(_WIDEST, console.width)
    console.print(f"This is how {first.origin or 'the first question'} was read:", width=width)
    console.print(table, width=width)


def first_question(questions: QuestionSplits) -> Question:
    """The one with the lowest line of the training file, whatever split it was drawn into."""
    file = _place(questions.train[0])[0]
    found = [q for _, part in questions.parts() for q in part if _place(q)[0] == file]
    return min(found, key=_place)


def _place(question: Question) -> tuple[str, int]:
    file, _, line = question.origin.rpartition(":")
    return file, int(line) if line.isdigit() else 0


def describe(question: Question, option_ids: OptionIds) -> Iterator[tuple[str, str]]:
    """The question's parts by name, and their texts; the answer with its option."""
    yield "id", question.id
    yield "question", _cut(question.text)
    labels = answer_labels(question, option_ids)
    lines = [
        f"{label}. {_cut(text)}" for label, text in zip(labels, question.options, strict=False)
    ]
    if lines:
        yield "options", "\n".join(lines)
        yield "answer", lines[question.gold_index or 0]
    else:
        allowed = f" (one of {', '.join(labels)})" if labels else ""
        yield "answer", _cut(gold_label(question, option_ids)) + allowed
    if question.subject:
        yield "subject", question.subject
    if question.rationale:
        yield "rationale", _cut(question.rationale)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text):,} characters)"
